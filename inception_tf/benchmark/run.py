# SPDX-License-Identifier: Apache-2.0
"""Times a network, one batch per step, and reports it in the lines of the documents' listing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from inception_tf.arch import counting
from inception_tf.benchmark.case import KINDS, Case
from inception_tf.benchmark.peak import measure_flops, measure_memory_rate
from inception_tf.benchmark.plausibility import Peak
from inception_tf.benchmark.report import (
    BURN_IN,
    EVERY,
    BenchmarkSettings,
    Timing,
    least_bytes,
    step_line,
    summary_line,
)
from inception_tf.host.environment import environment
from inception_tf.host.hardware import (
    device_name,
    peak_memory,
    reset_peak_memory,
    usable_cores,
    uses_tf32,
)
from inception_tf.models import find_network

if TYPE_CHECKING:
    from inception_tf.benchmark.steps import Prepared

__all__ = ["clocked", "time_case", "time_prepared"]

FORWARD_STEPS = 5  # in training mode, next to gradient steps


def time_case(case: Case, log: Callable[[str], None], *, peak: bool = False) -> Timing:
    """Times `case.steps` steps after ten burn-in steps.

    A step begins with its batch in memory, or with drawing it, and ends when the class probabilities are in
    a NumPy array; for forward-backward when the loss and the norm of all gradients are, for a train-step
    when the weights are updated and the loss is there.

    Args:
        case: what to time.
        log: called with each line of the report.
        peak: also measure the peak of the machine, before and after; the better counts.

    Returns:
        The timing.

    Raises:
        UserError: an unknown network, a size below its minimum, or a case that cannot be timed.

    Example:

        timing = time_case(Case("inception_v1", batch_size=2, steps=10), print)
    """
    from inception_tf.benchmark.steps import prepare, resolved, set_threads

    case = resolved(case.checked())
    set_threads(case)
    before = _peak(case) if peak else Peak()
    reset_peak_memory()  # of what was timed before

    started = time.perf_counter()
    prepared = prepare(case)
    prepared.step()
    compile_seconds = time.perf_counter() - started

    timing = time_prepared(case, prepared, compile_seconds, log)
    return dataclasses.replace(timing, peak=before.better(_peak(case))) if peak else timing


def time_prepared(
    case: Case, prepared: Prepared, compile_seconds: float, log: Callable[[str], None]
) -> Timing:
    """Times a step that is compiled already, without measuring the peak.

    Args:
        case: a resolved case.
        prepared: its step.
        compile_seconds: from building the network to the end of the first step.
        log: called with each line of the report.

    Returns:
        The timing.
    """
    forward, backward = _multiply_adds(case)
    setting = BenchmarkSettings(
        what=KINDS[case.kind],
        model=case.model,
        parameters=prepared.parameters,
        multiply_adds=forward,
        backward_multiply_adds=0 if case.kind == "forward" else backward,
        batch_size=case.batch_size,
        size=case.pixels,
        precision=case.precision,
        device=device_name(),
        threads=case.threads or usable_cores(),
        backend=prepared.backend,
        input=case.input,
        tf32=case.precision == "float32" and case.backend != "openvino" and uses_tf32(),
    )
    log(setting.header())
    durations = clocked(prepared.step, case.steps, log)
    log(summary_line(datetime.now(), setting.what, durations))
    memory = peak_memory()
    if prepared.model:
        prepared.model()  # JAX has freed the weights that the steps were given
    forward_seconds = _fastest(prepared.forward) if prepared.forward else None
    return Timing(
        setting, compile_seconds, durations, memory, Peak(), environment(), forward_seconds
    )


def _fastest(step: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls after the first, which compiles."""
    step()
    seconds = []
    for _ in range(FORWARD_STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def clocked(
    step: Callable[[], object], steps: int, log: Callable[[str], None]
) -> tuple[float, ...]:
    """Calls a step repeatedly and reports every tenth call.

    Args:
        step: the function to time.
        steps: timed calls, after ten burn-in calls.
        log: called with each line of the report.

    Returns:
        Seconds of each timed call.
    """
    durations = []
    for number in range(-BURN_IN, steps):
        started = time.perf_counter()
        step()
        duration = time.perf_counter() - started
        if number >= 0:
            durations.append(duration)
            if number % EVERY == 0:
                log(step_line(datetime.now(), number, duration))
    return tuple(durations)


def _facts(case: Case) -> tuple:
    from inception_tf.benchmark.steps import trains_auxiliaries

    return counting.layer_costs(
        find_network(case.model), case.size, aux_logits=trains_auxiliaries(case)
    )


def _multiply_adds(case: Case) -> tuple[int, int]:
    """Multiply-adds per image of the forward pass and of the gradients."""
    facts = _facts(case)
    return counting.total(facts, "multiply_adds"), counting.total(facts, "backward_multiply_adds")


def _peak(case: Case) -> Peak:
    """The peak throughput of arithmetic (not for int8, which Keras cannot multiply) and of memory.

    Empty where OpenVINO has its own number of threads: the peak is measured on Keras' backend.
    """
    if case.backend == "openvino" and case.threads is not None:
        return Peak()
    flops = None if case.precision == "int8" else measure_flops(case.precision)
    numbers = counting.total(_facts(case), "params")
    pixels = 3 * case.pixels**2 * case.batch_size
    working_set = least_bytes(KINDS[case.kind], case.precision, numbers, pixels)
    return Peak(flops, measure_memory_rate(working_set))
