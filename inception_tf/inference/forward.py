# SPDX-License-Identifier: Apache-2.0
"""The forward pass of a network, compiled by Keras' backend, from NumPy to NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import keras
import numpy as np

__all__ = ["compiled_forward"]


def compiled_forward(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compiles a network for inference: tf.function, jax.jit; torch runs as it is.

    Args:
        network: (N, H, W, C) → one output.  Its weights are those of the first call.

    Returns:
        A function of images, (N, H, W, C), that gives the output as an array; it waits for the device.
    """
    make = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    forward = make(network)
    return lambda images: keras.ops.convert_to_numpy(forward(images))


def _tensorflow(network: keras.Model) -> Callable:
    import tensorflow as tf

    call = tf.function(lambda images: network(images, training=False), autograph=False)

    @cache
    def graph(shape, dtype):
        # One for all batches: the last of a data set is smaller.
        return call.get_concrete_function(tf.TensorSpec((None, *shape), dtype))

    def forward(images):
        images = tf.convert_to_tensor(images)
        return graph(tuple(images.shape[1:]), images.dtype)(images)

    return forward


def _jax(network: keras.Model) -> Callable:
    import jax

    state = (
        [v.value for v in network.trainable_variables],
        [v.value for v in network.non_trainable_variables],
    )
    call = jax.jit(lambda state, images: network.stateless_call(*state, images, training=False)[0])
    return lambda images: call(state, images)


def _torch(network: keras.Model) -> Callable:
    import torch

    def call(images):
        with torch.no_grad():
            return network(images, training=False)

    return call
