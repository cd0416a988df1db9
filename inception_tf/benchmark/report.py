# SPDX-License-Identifier: Apache-2.0
"""The timing report: the lines of the documents' listing, and the same figures for a program."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

__all__ = ["BURN_IN", "EVERY", "Setting", "Timing", "percentile", "step_line", "summary_line"]

BURN_IN = 10  # steps before step 0, not counted; TensorFlow's alexnet_benchmark
EVERY = 10  # one line for so many steps


@dataclass(frozen=True)
class Setting:
    """What is timed, on what, in which form."""

    what: str  # Forward, or Forward-backward
    model: str
    parameters: int
    multiply_adds: int  # one image, forward
    batch_size: int  # images a step
    size: int  # pixels
    precision: str
    device: str
    threads: int
    backend: str
    input: str = "constant"  # or redrawn, inside the timed step

    def header(self) -> str:
        """The report's first line."""
        return (
            f"{self.model}: {self.parameters:,} parameters, batch {self.batch_size},"
            f" {self.size}x{self.size}, {self.precision}, {self.device},"
            f" {self.threads} thread{'s' if self.threads != 1 else ''}, {self.backend}"
            f"{', input redrawn' if self.input == 'redrawn' else ''}"
        )


@dataclass(frozen=True)
class Timing:
    """How long each step took, and what else the run measured."""

    setting: Setting
    compile_seconds: float  # the first call: tracing and compilation
    durations: tuple[float, ...]  # seconds a step, burn-in left out
    peak_memory: int  # bytes, the most that the whole process held from building the network on
    peak_flops: (
        float | None
    )  # operations a second that this machine reaches at best, where measured
    environment: dict

    @property
    def operations(self) -> int:
        """Of a step: a multiply-add is two, and the gradients of a layer take twice its forward pass."""
        passes = 3 if self.setting.what == "Forward-backward" else 1
        return 2 * self.setting.multiply_adds * self.setting.batch_size * passes

    def as_dict(self) -> dict:
        """Everything by name, in seconds, bytes, images a second and FLOP a second."""
        median = statistics.median(self.durations)
        batch = self.setting.batch_size
        flops = self.operations / median
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
            "peak_flops_per_second": self.peak_flops,
            "share_of_peak": flops / self.peak_flops if self.peak_flops else None,
            "compile_seconds": self.compile_seconds,
            "peak_memory": self.peak_memory,
            "environment": self.environment,
        }


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
