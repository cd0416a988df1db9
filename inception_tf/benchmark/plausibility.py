# SPDX-License-Identifier: Apache-2.0
"""Decides whether a measured figure is possible, in one place.

A figure above what the machine can do, or below what the work must take, is a measurement error until it
is explained: it is marked wherever it is shown, and no page is written from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inception_tf.errors import UserError

__all__ = ["Evidence", "Peak", "refuse_suspect", "suspicions"]

TOLERANCE = 1.05  # on a limit that was measured, too, and so has an error
# Least ratio of a gradient step's time to its forward pass in training mode; by operations it is 3.
BACKWARD = 1.5


@dataclass(frozen=True)
class Peak:
    """The best of several measurements of the machine; None where there is none."""

    flops: float | None = None  # operations per second, a multiply-add being two
    bytes: float | None = None  # per second

    def better(self, other: Peak) -> Peak:
        """Combines two measurements of a machine whose speed varies.

        Args:
            other: the other measurement.

        Returns:
            The higher figure of each kind.
        """
        return Peak(_higher(self.flops, other.flops), _higher(self.bytes, other.bytes))


def _higher(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)


@dataclass(frozen=True)
class Evidence:
    """A measured step and what is known about it; None where something was not measured."""

    seconds: float  # of the median step
    operations: float = 0  # of a step, a multiply-add being two
    least_bytes: float = 0  # that a step must move: its weights, its images
    peak: Peak = field(default_factory=Peak)
    compile_seconds: float | None = None  # up to the end of the first step, which it includes
    forward_seconds: float | None = None  # of a forward pass in training mode; of gradient steps


def suspicions(evidence: Evidence) -> tuple[str, ...]:
    """Finds the reasons why a measured step is impossible.

    Args:
        evidence: the step and what is known about it.

    Returns:
        One sentence per reason; empty for a plausible step.
    """
    seconds, peak = evidence.seconds, evidence.peak
    if not seconds > 0:
        return (f"a step took {seconds:.3g} s",)
    reasons = []
    if peak.flops:
        fraction = evidence.operations / seconds / peak.flops
        if fraction > TOLERANCE:
            reasons.append(f"{fraction:.0%} of the peak rate that was measured on this machine")
    if peak.bytes:
        fraction = evidence.least_bytes / seconds / peak.bytes
        if fraction > TOLERANCE:
            reasons.append(f"{fraction:.0%} of the peak memory bandwidth for what a step must move")
    if evidence.compile_seconds is not None and evidence.compile_seconds < seconds:
        reasons.append(
            f"compilation took {evidence.compile_seconds:.3g} s, less than one step, which it includes"
        )
    if evidence.forward_seconds is not None:
        ratio = seconds / evidence.forward_seconds
        if ratio < BACKWARD:
            reasons.append(
                f"{ratio:.2f} times its forward pass in training mode: the gradients cannot all have"
                " been computed"
            )
    return tuple(reasons)


def refuse_suspect(figures: Iterable[tuple[str, Mapping | Evidence]]) -> None:
    """Rejects suspect figures; called before a page is written.

    Args:
        figures: pairs of a name and its evidence, or a dict from `Timing.as_dict()`.

    Raises:
        UserError: any of the figures is suspect.
    """
    for name, figure in figures:
        reasons = suspicions(figure) if isinstance(figure, Evidence) else figure["suspect"]
        if reasons:
            raise UserError(
                f"{name} is impossible: {'; '.join(reasons)}; nothing is written: measure again on a machine"
                " with nothing else running"
            )
