# SPDX-License-Identifier: Apache-2.0
"""Times a network, one batch a step, and tells it in the lines of the documents' report."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from inception_tf import spec
from inception_tf.benchmark.case import KINDS, Case
from inception_tf.benchmark.report import BURN_IN, EVERY, Setting, Timing, step_line, summary_line
from inception_tf.host.environment import environment
from inception_tf.host.hardware import device_name, peak_memory, reset_peak_memory
from inception_tf.models import find

__all__ = ["clocked", "time_case"]


def time_case(case: Case, tell: Callable[[str], None], *, peak: bool = False) -> Timing:
    """Times `case.steps` steps after ten that are not counted; `tell` gets each line of the report.

    A step begins with its batch in memory, or with drawing it, and ends when the class probabilities,
    or the loss after all gradients, lie in a NumPy array.  peak: measure what the machine reaches at
    best too.  Raises `UserError` for an unknown network, a size below its minimum, and a setting that
    cannot be timed.
    """
    from inception_tf.benchmark.steps import prepare

    case = case.checked()
    network = find(case.model)
    multiply_adds = spec.total(spec.facts(network, case.size), "multiply_adds")
    reset_peak_memory()  # of what was timed before
    prepared = prepare(case)

    started = time.perf_counter()
    prepared.step()
    compile_seconds = time.perf_counter() - started

    setting = Setting(
        what=KINDS[case.kind],
        model=case.model,
        parameters=prepared.parameters,
        multiply_adds=multiply_adds,
        batch_size=case.batch_size,
        size=case.size,
        precision=prepared.precision,
        device=device_name(),
        threads=prepared.threads,
        backend=prepared.backend,
        input=case.input,
    )
    tell(setting.header())
    durations = clocked(prepared.step, case.steps, tell)
    tell(summary_line(datetime.now(), setting.what, durations))
    memory = peak_memory()
    return Timing(
        setting, compile_seconds, durations, memory, _peak(setting) if peak else None, environment()
    )


def clocked(
    step: Callable[[], object], steps: int, tell: Callable[[str], None]
) -> tuple[float, ...]:
    """Seconds of each of `steps` calls after the burn-in, a line for every tenth."""
    durations = []
    for number in range(-BURN_IN, steps):
        started = time.perf_counter()
        step()
        duration = time.perf_counter() - started
        if number >= 0:
            durations.append(duration)
            if number % EVERY == 0:
                tell(step_line(datetime.now(), number, duration))
    return tuple(durations)


def _peak(setting: Setting) -> float | None:
    """None where TensorFlow has no arithmetic of that kind to compare with."""
    if setting.precision == "int8" or "TensorFlow" not in setting.backend:
        return None
    from inception_tf.benchmark.peak import peak_flops

    return peak_flops(setting.precision)
