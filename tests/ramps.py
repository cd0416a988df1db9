# SPDX-License-Identifier: Apache-2.0
"""Weights and images by a fixed rule: MurmurHash3's finalizer of each number's place, no library's stream."""

from __future__ import annotations

import contextlib
import zlib
from unittest import mock

import numpy as np


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from -1 to 1, float32, that `name` and `shape` alone decide."""
    x = np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint32)
    x += np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x / np.float32(2**31) - 1).astype(np.float32).reshape(shape)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A variable as a trained network might hold it: He's scale, statistics that are not 0 and 1."""
    u = uniform(name, shape)
    if name.endswith("moving_variance"):
        return 1 + u / 2
    if len(shape) == 1:  # biases, beta, moving_mean
        return u / 4
    fan_in = np.prod(shape[:-1])
    return u * np.float32(np.sqrt(6 / fan_in))


def fill(model) -> None:
    """Sets every variable of a Keras model by the rule, from its path and shape."""
    for variable in model.weights:
        variable.assign(weight(variable.path, tuple(variable.shape)))


@contextlib.contextmanager
def undrawn():
    """What Keras would draw is 0 here, which takes no time: for models that are filled, or asked for names and shapes."""
    import keras

    def zeros(shape, *_, dtype, **__):
        return keras.ops.zeros(shape, dtype)

    with (
        mock.patch("keras.src.backend.random.truncated_normal", zeros),
        mock.patch("keras.src.backend.random.uniform", zeros),
    ):
        yield


def images(*shape: int) -> np.ndarray:
    """Images from -1 to 1, each with a brightness and a contrast of its own; (N, H, W, C) float32."""
    x = uniform("images", shape)
    for i, image in enumerate(x):
        image *= 1 / (i + 1)
        image += (i % 3 - 1) * np.float32(0.3)
    return x
