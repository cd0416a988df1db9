# SPDX-License-Identifier: Apache-2.0
"""Times the forward pass of a network, one batch a step, as a single TensorFlow graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import keras
import numpy as np
import tensorflow as tf

from inception_tf import spec
from inception_tf.applications import create_model
from inception_tf.device import (
    device_name,
    environment,
    peak_memory,
    resolve_precision,
    usable_cores,
)
from inception_tf.errors import UserError
from inception_tf.models import find
from inception_tf.timing.report import BURN_IN, EVERY, Setting, Timing, step_line, summary_line

__all__ = ["time_forward"]

INPUT_SEED = 0


def time_forward(
    name: str,
    *,
    batch_size: int = 32,
    size: int | None = None,
    steps: int = 100,
    precision: str = "auto",
    tell: Callable[[str], None],
) -> Timing:
    """Times `steps` forward passes after ten that are not counted; `tell` gets each line of the report.

    A step begins with its batch in memory and ends when the class probabilities lie in a NumPy
    array.  size: pixels, default the network's own.  Raises `UserError` for an unknown network, a
    size below its minimum, or a batch or number of steps below one.
    """
    for key, value in (("batch size", batch_size), ("number of steps", steps)):
        if value < 1:
            raise UserError(f"the {key} must be at least 1, got {value}")
    network = find(name)
    size = size or network.size
    multiply_adds = spec.total(spec.facts(network, size), "multiply_adds")
    policy = resolve_precision(precision).policy
    model = create_model(name, input_shape=(size, size, 3), dtype=policy)
    forward = one_graph(model, batch_size, size)
    images = _images(batch_size, size)

    started = time.perf_counter()
    forward(images).numpy()
    compile_seconds = time.perf_counter() - started

    setting = Setting(
        what="Forward",
        model=name,
        parameters=model.count_params(),
        multiply_adds=multiply_adds,
        batch_size=batch_size,
        size=size,
        precision=policy,
        device=device_name(),
        threads=tf.config.threading.get_intra_op_parallelism_threads() or usable_cores(),
        backend=f"TensorFlow {tf.__version__}",
    )
    tell(setting.header())
    durations = clocked(lambda: forward(images).numpy(), steps, tell)
    tell(summary_line(datetime.now(), setting.what, durations))
    return Timing(setting, compile_seconds, durations, peak_memory(), environment())


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


def one_graph(model: keras.Model, batch_size: int, size: int) -> Callable:
    """The model's inference as one TensorFlow graph: (batch_size, size, size, 3) float32 → (batch_size, classes)."""
    signature = [tf.TensorSpec((batch_size, size, size, 3), tf.float32)]
    return tf.function(lambda images: model(images, training=False), input_signature=signature)


def _images(batch_size: int, size: int) -> tf.Tensor:
    values = np.random.default_rng(INPUT_SEED).uniform(-1, 1, (batch_size, size, size, 3))
    return tf.constant(values, tf.float32)
