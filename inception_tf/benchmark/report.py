# SPDX-License-Identifier: Apache-2.0
"""The timing report: the lines of the documents' listing, and the same figures as a dict."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from inception_tf.benchmark.plausibility import Evidence, Peak, suspicions

__all__ = [
    "BURN_IN",
    "BenchmarkSettings",
    "EVERY",
    "Timing",
    "least_bytes",
    "percentile",
    "step_line",
    "summary_line",
]

BURN_IN = 10  # steps before step 0, not counted; TensorFlow's alexnet_benchmark
EVERY = 10  # steps per line


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is timed, on which device and in which form."""

    what: str  # Forward, Forward-backward or Train-step
    model: str
    parameters: int
    multiply_adds: int  # per image, forward
    backward_multiply_adds: int  # per image, of the gradients; 0 for a forward pass
    batch_size: int  # images per step
    size: int  # pixels
    precision: str
    device: str
    threads: int
    backend: str
    input: str = "constant"  # or redrawn, inside the timed step
    tf32: bool = False  # float32 products of a GPU in TF32, 10 bits of mantissa

    def header(self) -> str:
        """The first line of the report.

        Returns:
            `inception_v3: 23,851,784 parameters, batch 8, 299x299, ...`
        """
        return (
            f"{self.model}: {self.parameters:,} parameters, batch {self.batch_size},"
            f" {self.size}x{self.size}, {self.precision}{' in TF32' if self.tf32 else ''},"
            f" {self.device}, {self.threads} thread{'s' if self.threads != 1 else ''}, {self.backend}"
            f"{', input redrawn' if self.input == 'redrawn' else ''}"
        )

    @property
    def operations(self) -> int:
        """Operations per step, a multiply-add counting as two; an optimizer's, about one per weight, are not counted."""
        return 2 * (self.multiply_adds + self.backward_multiply_adds) * self.batch_size

    @property
    def least_bytes(self) -> int:
        """Bytes that a step must move, see the function `least_bytes`."""
        return least_bytes(
            self.what, self.precision, self.parameters, 3 * self.size**2 * self.batch_size
        )


@dataclass(frozen=True)
class Timing:
    """The duration of each step, and what else the run measured."""

    setting: BenchmarkSettings
    compile_seconds: float  # building the network, tracing and compiling it, and the first step
    durations: tuple[float, ...]  # seconds per step, without burn-in
    peak_memory: int  # bytes, the most that the whole process held from building the network on
    peak: Peak  # of the machine, where measured
    environment: dict
    # of a forward pass in training mode, next to gradient steps
    forward_seconds: float | None = None

    @property
    def suspect(self) -> tuple[str, ...]:
        """Why this timing is impossible; empty for a plausible one."""
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
        """All figures by name.

        Returns:
            Numbers in seconds, bytes, images per second and FLOP per second, and the settings.
        """
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
        precision: float32, bfloat16, float16 or int8.
        parameters: the number of weights.
        pixels: numbers in the images of a step.

    Returns:
        The lower bound.
    """
    width = {"float32": 4, "int8": 1}.get(precision, 2)
    per_weight = {"Forward": width, "Forward-backward": width + 4, "Train-step": width + 12}
    return parameters * per_weight[what] + 4 * pixels


def step_line(now: datetime, step: int, duration: float) -> str:
    """The report's line for one step.

    Args:
        now: the end of the step.
        step: counted from 0.
        duration: seconds.

    Returns:
        `2018-06-23 11:43:30.350918: step 0, duration = 0.167`
    """
    return f"{_stamp(now)}: step {step}, duration = {duration:.3f}"


def summary_line(now: datetime, what: str, durations: Sequence[float]) -> str:
    """The report's last line, with mean and population standard deviation.

    Args:
        now: the end of the last step.
        what: Forward, Forward-backward or Train-step.
        durations: seconds per step.

    Returns:
        `2018-06-23 11:43:45.939761: Forward across 100 steps, 0.168 +/- 0.002 sec / batch`
    """
    mean, deviation = statistics.fmean(durations), statistics.pstdev(durations)
    return f"{_stamp(now)}: {what} across {len(durations)} steps, {mean:.3f} +/- {deviation:.3f} sec / batch"


def percentile(values: Sequence[float], percent: float) -> float:
    """Computes a percentile by the nearest-rank method.

    Args:
        values: at least one number.
        percent: in [0, 100].

    Returns:
        The smallest value that at least `percent` of the values do not exceed.
    """
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def _stamp(now: datetime) -> str:
    # str(datetime) omits a fraction of zero; the listing never does.
    return now.isoformat(sep=" ", timespec="microseconds")
