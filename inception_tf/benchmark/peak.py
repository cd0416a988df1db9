# SPDX-License-Identifier: Apache-2.0
"""What this machine reaches at best: one large matrix product and one convolution, timed beside the networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

__all__ = ["peak_flops"]

SIDE = 2048  # of the square matrices
GRID, CHANNELS, IMAGES = (
    35,
    192,
    16,
)  # a 3x3 convolution of Inception V3's first grid, wide enough to fill the units
TRIES = 5  # the best counts: what the machine can do, not what others left of it


@cache
def peak_flops(precision: str) -> float:
    """Operations a second in `precision`, a multiply-add being two: the better of the two, on TensorFlow.

    A process that has set its number of threads is measured with that number.
    """
    import tensorflow as tf

    dtype = tf.as_dtype(precision)
    a = tf.cast(tf.random.uniform((SIDE, SIDE), -1, 1), dtype)
    x = tf.cast(tf.random.uniform((IMAGES, GRID, GRID, CHANNELS), -1, 1), dtype)
    kernel = tf.cast(tf.random.uniform((3, 3, CHANNELS, CHANNELS), -1, 1), dtype)
    product = tf.function(lambda: tf.linalg.matmul(a, a)[0, 0])
    convolution = tf.function(lambda: tf.nn.conv2d(x, kernel, 1, "SAME")[0, 0, 0, 0])
    return max(
        2 * SIDE**3 / _best(product),
        2 * IMAGES * GRID**2 * 9 * CHANNELS**2 / _best(convolution),
    )


def _best(work: Callable) -> float:
    """Seconds of the fastest call; the first ones trace and warm up."""
    times = []
    for _ in range(TRIES + 2):
        started = time.perf_counter()
        work().numpy()
        times.append(time.perf_counter() - started)
    return min(times[2:])
