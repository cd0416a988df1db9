# SPDX-License-Identifier: Apache-2.0
"""The one place that decides whether a figure is possible.

A figure above what the machine can do, or below what the work must take, is a fault of the
measurement until it is explained: it is marked wherever it is shown, and no page takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inception_tf.errors import UserError

__all__ = ["Evidence", "Peak", "refuse_suspect", "suspicions"]

ABOVE = 1.05  # of a limit that was measured too, and so has a measurement's error
BACKWARD = (
    1.5  # a gradient step's time over its forward pass in training mode; by operations it is 3
)


@dataclass(frozen=True)
class Peak:
    """The best of several measurements; None where there is none."""

    flops: float | None = None  # operations per second, a multiply-add being two
    bytes: float | None = None  # per second

    def better(self, other: Peak) -> Peak:
        """The higher figure of each kind: a machine that changes its speed was able to reach both."""
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
    """Why the figure cannot be; empty where nothing speaks against it."""
    seconds, peak = evidence.seconds, evidence.peak
    if not seconds > 0:
        return (f"a step took {seconds:.3g} s",)
    reasons = []
    if peak.flops:
        share = evidence.operations / seconds / peak.flops
        if share > ABOVE:
            reasons.append(f"{share:.0%} of the best rate that this machine was measured at")
    if peak.bytes:
        share = evidence.least_bytes / seconds / peak.bytes
        if share > ABOVE:
            reasons.append(f"{share:.0%} of the best rate of memory for what a step must move")
    if evidence.compile_seconds is not None and evidence.compile_seconds < seconds:
        reasons.append(
            f"compiling took {evidence.compile_seconds:.3g} s, less than one step, which it includes"
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
    """Raises `UserError` if any figure is suspect: what writes a page asks this first.

    Args:
        figures: pairs of what a figure is called and its evidence, or a dict of `Timing.as_dict()`.
    """
    for name, figure in figures:
        reasons = suspicions(figure) if isinstance(figure, Evidence) else figure["suspect"]
        if reasons:
            raise UserError(
                f"{name} cannot be: {'; '.join(reasons)}; nothing is written: measure again on a machine"
                " with nothing else running"
            )
