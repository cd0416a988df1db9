# SPDX-License-Identifier: Apache-2.0
"""The peak performance of this machine, measured next to the networks on Keras' backend.

Arithmetic: a large matrix product or convolution.  Memory: reading one large tensor, or adding two
into a third.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras

from inception_tf.benchmark.passes import compiled, wait
from inception_tf.host.hardware import sees_gpu

__all__ = ["measure_flops", "measure_memory_rate"]

# Wide enough to fill the units and long enough to hide the overhead of a call: milliseconds each.
SIDE, SIDE_GPU = 2048, 8192  # of the square matrices
GRID, CHANNELS = 35, 192  # a 3x3 convolution at the 35x35 feature map of Inception V3
IMAGES, IMAGES_GPU = 16, 1024
TRIES = 5  # the best counts: what the machine can do, not what other processes leave of it
IN_FLIGHT = 4  # calls between two readings of the clock on a GPU, so that its queue is never empty
MIN_BYTES = 1 << 20  # of a tensor that is read: below, the overhead of a call dominates


def measure_flops(precision: str) -> float:
    """Measures the peak arithmetic throughput: the better of a matrix product and a 3x3 convolution.

    Each is the best of five.  A process that has set its number of threads is measured with that number.

    Args:
        precision: float32, bfloat16 or float16.

    Returns:
        Operations per second, a multiply-add counting as two.
    """
    side, images = (SIDE_GPU, IMAGES_GPU) if sees_gpu() else (SIDE, IMAGES)
    a = _random((side, side), precision)
    x = _random((images, GRID, GRID, CHANNELS), precision)
    kernel = _random((3, 3, CHANNELS, CHANNELS), precision)
    return max(
        2 * side**3 / _best(compiled(keras.ops.matmul, _how()), a, a),
        2 * images * GRID**2 * 9 * CHANNELS**2 / _best(compiled(_convolution, _how()), x, kernel),
    )


def measure_memory_rate(working_set: int) -> float:
    """Measures the memory bandwidth: the better of reading one tensor and of adding two into a third.

    Args:
        working_set: bytes of all tensors together; a cache that holds them counts.

    Returns:
        Bytes per second.
    """
    numbers = max(working_set, MIN_BYTES) // 4
    whole = _random((numbers,), "float32")
    a, b = _random((numbers // 3,), "float32"), _random((numbers // 3,), "float32")
    return max(
        4 * numbers / _best(compiled(keras.ops.sum, _how()), whole),
        4 * 3 * (numbers // 3) / _best(compiled(keras.ops.add, _how()), a, b),
    )


def _convolution(x, kernel):
    return keras.ops.conv(x, kernel, 1, "same", "channels_last")


def _how() -> str:
    # torch computes one operation as fast without its compiler, which takes a minute.
    return "none" if keras.backend.backend() == "torch" else "graph"


def _random(shape: tuple[int, ...], dtype: str) -> object:
    return keras.ops.cast(keras.random.uniform(shape, -1, 1, seed=0), dtype)


def _best(work: Callable, *tensors: object) -> float:
    """Seconds of the fastest call; the first ones trace and warm up."""
    calls = IN_FLIGHT if sees_gpu() else 1
    seconds = []
    for _ in range(TRIES + 2):
        started = time.perf_counter()
        for _ in range(calls):
            result = work(*tensors)
        wait(result)
        seconds.append((time.perf_counter() - started) / calls)
    return min(seconds[2:])
