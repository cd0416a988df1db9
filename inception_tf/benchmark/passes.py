# SPDX-License-Identifier: Apache-2.0
"""Forward passes, and gradients, on each of the backends that Keras has; jax and torch bring their own GPU."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from inception_tf.errors import UserError

__all__ = ["CALLS", "mean_loss"]

TINY = 1e-7  # added to a probability before its logarithm


def mean_loss(probabilities):
    """Mean cross-entropy of (N, K) probabilities as if every image were of class 0."""
    return -keras.ops.mean(keras.ops.log(probabilities[:, 0] + TINY))


def _predict(model: keras.Model) -> Callable:
    return lambda images: model.predict(images, batch_size=len(images), verbose=0)


def _no_gradients(model: keras.Model) -> Callable:
    raise UserError("with Keras on TensorFlow, time forward-backward with --backend tensorflow")


def _jax_forward(model: keras.Model) -> Callable:
    import jax

    def probabilities(weights, images):
        return model.stateless_call(*weights, images, training=False)[0]

    compiled, weights = jax.jit(probabilities), _values(model)
    return lambda images: np.asarray(compiled(weights, images))


def _jax_gradients(model: keras.Model) -> Callable:
    import jax

    def loss(trainable, rest, images):
        probabilities, _ = model.stateless_call(trainable, rest, images, training=True)
        return mean_loss(probabilities)

    compiled, weights = jax.jit(jax.value_and_grad(loss)), _values(model)
    # Waits for the gradients too; only the loss comes back.
    return lambda images: np.asarray(jax.block_until_ready(compiled(*weights, images))[0])


def _values(model: keras.Model) -> tuple[list, list]:
    return (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )


def _torch_forward(model: keras.Model) -> Callable:
    import torch

    def call(images):
        with torch.no_grad():
            return model(images, training=False).cpu().numpy()

    return call


def _torch_gradients(model: keras.Model) -> Callable:
    import torch

    def call(images):
        model.zero_grad()
        value = mean_loss(model(images, training=True))
        value.backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return value.detach().cpu().numpy()

    return call


# Keras' backend: (forward, gradients), each model → (images → array).
CALLS = {
    "tensorflow": (_predict, _no_gradients),
    "jax": (_jax_forward, _jax_gradients),
    "torch": (_torch_forward, _torch_gradients),
}
