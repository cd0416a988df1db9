# SPDX-License-Identifier: Apache-2.0
"""The timing report: the lines of the documents' listing, and the same figures for a program."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from inception_tf.benchmark.plausibility import Evidence, Peak, suspicions

__all__ = [
    "BURN_IN",
    "EVERY",
    "BenchmarkSettings",
    "Timing",
    "least_bytes",
    "percentile",
    "step_line",
    "summary_line",
]

BURN_IN = 10  # steps before step 0, not counted; TensorFlow's alexnet_benchmark
EVERY = 10  # one line for so many steps


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is timed, on what, in which form."""

    what: str  # Forward, Forward-backward or Train-step
    model: str
    parameters: int
    multiply_adds: int  # one image, forward
    backward_multiply_adds: int  # one image, of the gradients; 0 for a forward pass
    batch_size: int  # images a step
    size: int  # pixels
    precision: str
    device: str
    threads: int
    backend: str
    input: str = "constant"  # or redrawn, inside the timed step
    tf32: bool = False  # float32 products of a GPU in TF32, 10 bits of mantissa

    def header(self) -> str:
        """The report's first line."""
        return (
            f"{self.model}: {self.parameters:,} parameters, batch {self.batch_size},"
            f" {self.size}x{self.size}, {self.precision}{' in TF32' if self.tf32 else ''},"
            f" {self.device}, {self.threads} thread{'s' if self.threads != 1 else ''}, {self.backend}"
            f"{', input redrawn' if self.input == 'redrawn' else ''}"
        )

    @property
    def operations(self) -> int:
        """Of a step: a multiply-add is two.  An optimizer's, of the order of the weights, are not counted."""
        return 2 * (self.multiply_adds + self.backward_multiply_adds) * self.batch_size

    @property
    def least_bytes(self) -> int:
        """That a step must move, as in `least_bytes`."""
        return least_bytes(
            self.what, self.precision, self.parameters, 3 * self.size**2 * self.batch_size
        )


@dataclass(frozen=True)
class Timing:
    """How long each step took, and what else the run measured."""

    setting: BenchmarkSettings
    compile_seconds: float  # building the network, tracing and compiling it, and the first step
    durations: tuple[float, ...]  # seconds per step, burn-in left out
    peak_memory: int  # bytes, the most that the whole process held from building the network on
    peak: Peak  # what the machine reaches at best, where measured
    environment: dict
    forward_seconds: float | None = (
        None  # of a forward pass in training mode, beside gradient steps
    )

    @property
    def suspect(self) -> tuple[str, ...]:
        """Why this timing cannot be; empty for one that can."""
        evidence = Evidence(
            statistics.median(self.durations),
            self.setting.operations,
            self.setting.least_bytes,
            self.peak,
            self.compile_seconds,
            self.forward_seconds,
        )
        return suspicions(evidence)

    def as_dict(self) -> dict:
        """Everything by name, in seconds, bytes, images per second and FLOP per second."""
        median = statistics.median(self.durations)
        batch = self.setting.batch_size
        flops = self.setting.operations / median
        return {
            **dataclasses.asdict(self.setting),
            "steps": len(self.durations),
            "durations": list(self.durations),
            "mean": statistics.fmean(self.durations),
            "standard_deviation": statistics.pstdev(self.durations),
            "median": median,
            "p90": percentile(self.durations, 90),
            "p99": percentile(self.durations, 99),
            "images_per_second": batch / median,
            "flops_per_second": flops,
            "peak_flops_per_second": self.peak.flops,
            "share_of_peak": flops / self.peak.flops if self.peak.flops else None,
            "memory_bytes_per_second": self.peak.bytes,
            "forward_seconds": self.forward_seconds,
            "compile_seconds": self.compile_seconds,
            "peak_memory": self.peak_memory,
            "suspect": list(self.suspect),
            "environment": self.environment,
        }


def least_bytes(what: str, precision: str, parameters: int, pixels: int) -> int:
    """Bytes that a step must move, however it is computed.

    The weights are read in the step's precision and the images in float32; gradients are written in
    float32, and an optimizer reads and writes the weights in float32.

    Args:
        what: Forward, Forward-backward or Train-step.
        pixels: numbers in the images of a step.
    """
    width = {"float32": 4, "int8": 1}.get(precision, 2)
    per_weight = {"Forward": width, "Forward-backward": width + 4, "Train-step": width + 12}
    return parameters * per_weight[what] + 4 * pixels


def step_line(now: datetime, step: int, duration: float) -> str:
    """`2018-06-23 11:43:30.350918: step 0, duration = 0.167`"""
    return f"{_stamp(now)}: step {step}, duration = {duration:.3f}"


def summary_line(now: datetime, what: str, durations: Sequence[float]) -> str:
    """`2018-06-23 11:43:45.939761: Forward across 100 steps, 0.168 +/- 0.002 sec / batch`"""
    mean, deviation = statistics.fmean(durations), statistics.pstdev(durations)
    return f"{_stamp(now)}: {what} across {len(durations)} steps, {mean:.3f} +/- {deviation:.3f} sec / batch"


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that at least `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def _stamp(now: datetime) -> str:
    # str(datetime) leaves the fraction out when it is zero; the listing never does.
    return now.isoformat(sep=" ", timespec="microseconds")
