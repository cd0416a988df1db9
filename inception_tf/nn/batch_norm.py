# SPDX-License-Identifier: Apache-2.0
"""Keras' batch normalization made fast on TensorFlow, and with the statistics of all replicas."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras

from inception_tf.nn.keras_internals import require, saved_as

__all__ = ["BatchNormalization"]

Tensor = Any  # of the backend

require("_moments", "_reduction_axes", "register_internal_serializable")


# The class that a saved model names: Keras finds its own layer there, and where this package is imported, this one.
# Keras' public name for its layer, `keras.layers.BatchNormalization`, stays Keras'.
@saved_as("keras.src.layers.BatchNormalization")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer computed by TensorFlow's fused operation where possible: same arguments, weights and results.

    It is possible for (N, H, W, C) in bfloat16, float16 or float32, normalized over C, on the TensorFlow
    backend; the statistics are float32 whatever x is.  A mask, another axis or rank, batch
    renormalization, an epsilon below 1.001e-5 and other backends use Keras' own computation, and so does
    eager execution, in which TensorFlow 2.20's operation cannot be called from several threads.

    The moving variance follows the variance over n = N*H*W values, as Keras' does, and not the unbiased
    one over n - 1, as slim's does, so that every path through this layer gives one result.

    On torch the variance is computed from the differences to the mean, as TensorFlow and JAX do it.

    With more than one replica the statistics are always those of all replicas together (Keras:
    `synchronized=True`).  Otherwise each replica would have moving statistics of its own, of which
    only one replica's are saved.

    A saved model loads without this package, then with Keras' layer in place of this one.
    """

    # Momentum at the current step as a function of `momentum`, where a recipe has one; not saved.
    warm_up: Callable[[Any], Any] | None = None

    def call(self, inputs, training=None, mask=None):
        fuses = self._fuses(inputs, mask)
        if not training:
            if not fuses:
                return super().call(inputs, training=training, mask=mask)
            moving = (
                keras.ops.cast(v, "float32") for v in (self.moving_mean, self.moving_variance)
            )
            return self._operations().infer(
                inputs, *self._gamma_beta("float32"), *moving, self.epsilon
            )
        # Frozen during training: TensorFlow has no deterministic gradient of the fused operation on a GPU, and no
        # faster one on a CPU.
        if not self.trainable or self.renorm:
            return super().call(inputs, training=training, mask=mask)
        if fuses and self._replicas() == 1:
            outputs, mean, variance = self._operations().train(
                inputs, *self._gamma_beta("float32"), self.epsilon
            )
            self._update(mean, variance)
            return outputs
        if self.warm_up is None:
            return super().call(inputs, training=training, mask=mask)
        x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = self._moments(x, mask)
        self._update(mean, variance)
        gamma, beta = self._gamma_beta(x.dtype)
        x = keras.ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return keras.ops.cast(x, self.compute_dtype)

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the moving statistics towards those of a batch, (C,) each."""
        momentum = self.momentum if self.warm_up is None else self.warm_up(self.momentum)
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = keras.ops.cast(moving, found.dtype)
            moving.assign(old * momentum + found * (1.0 - momentum))

    def _gamma_beta(self, dtype: str) -> tuple:
        """(C,) each, of ones and zeros where the layer has none."""
        mean = keras.ops.cast(self.moving_mean, dtype)
        gamma = keras.ops.cast(self.gamma, dtype) if self.scale else keras.ops.ones_like(mean)
        beta = keras.ops.cast(self.beta, dtype) if self.center else keras.ops.zeros_like(mean)
        return gamma, beta

    def _fuses(self, x: Tensor, mask: Tensor | None) -> bool:
        if keras.backend.backend() != "tensorflow" or mask is not None or self.renorm:
            return False
        fused_batch_norm = self._operations()
        return (
            len(x.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(x.dtype) == self.compute_dtype
            and self.compute_dtype in fused_batch_norm.DTYPES
            and self.epsilon >= fused_batch_norm.LEAST_EPSILON
            and fused_batch_norm.safe_here()
        )

    def _moments(self, inputs, mask):
        if mask is None and self._replicas() > 1:
            return self._operations().moments_of_all(inputs, self._reduction_axes)
        if mask is None and keras.backend.backend() == "torch":
            # Keras has E[x^2] - E[x]^2 there: of a channel whose mean is large it may be negative.
            axes = self._reduction_axes
            return keras.ops.mean(inputs, axes), keras.ops.var(inputs, axes)
        return super()._moments(inputs, mask)

    def _replicas(self) -> int:
        return self._operations().replicas() if keras.backend.backend() == "tensorflow" else 1

    @staticmethod
    def _operations() -> ModuleType:
        # Imports TensorFlow, which other backends run without.
        from inception_tf.nn import fused_batch_norm

        return fused_batch_norm
