# SPDX-License-Identifier: Apache-2.0
"""The few layers that Keras lacks, in `keras.ops`, and its batch normalization made fast on TensorFlow."""

from __future__ import annotations

import keras
import numpy as np

from inception_tf.nn.keras_internals import require

__all__ = ["BatchNormalization", "LocalResponseNormalization"]

require("_moments")


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' own layer, by TensorFlow's fused operation where that can stand in: same arguments, weights and results.

    It can for (N, H, W, C) in bfloat16, float16 or float32, normalized over C, on the TensorFlow backend; the
    statistics are float32 whatever x is.  A mask, another axis or rank, batch renormalization and an
    epsilon below 1.001e-5 take Keras' way, as do the other backends.

    The moving variance takes up the population's variance, over n = N*H*W values, as Keras' does, and
    not the sample's, over n - 1, as slim's does: every way through this layer then gives one result.

    With more than one replica the statistics are always those of all replicas together (Keras:
    `synchronized=True`).  Apart, each replica would keep moving statistics of its own, of which only
    one replica's are saved.

    A saved model names Keras' layer in this one's place, so it loads where this package is missing.
    """

    __module__ = "keras.layers"  # what a saved configuration names

    # What is kept of the moving statistics at this step, of `momentum`; a recipe's, and not saved.
    warm_up = None

    def call(self, inputs, training=None, mask=None):
        if not training or self.warm_up is None:
            return self._normalized(inputs, training, mask)
        stated = self.momentum
        self.momentum = self.warm_up(stated)
        try:
            return self._normalized(inputs, training, mask)
        finally:
            self.momentum = stated

    def _normalized(self, inputs, training, mask):
        if not self._fuses(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        from inception_tf.nn import fused_batch_norm

        # Frozen amid training: TensorFlow has no deterministic gradient of that operation on a GPU, and no
        # faster one on a CPU.
        if training and (not self.trainable or fused_batch_norm.replicas() > 1):
            return super().call(inputs, training=True)
        mean, variance = self._as_float32(self.moving_mean), self._as_float32(self.moving_variance)
        gamma = self._as_float32(self.gamma) if self.scale else keras.ops.ones_like(mean)
        beta = self._as_float32(self.beta) if self.center else keras.ops.zeros_like(mean)
        if not training:
            return fused_batch_norm.infer(inputs, gamma, beta, mean, variance, self.epsilon)
        outputs, batch_mean, batch_variance = fused_batch_norm.train(
            inputs, gamma, beta, self.epsilon
        )
        kept = self.momentum
        self.moving_mean.assign(mean * kept + batch_mean * (1.0 - kept))
        self.moving_variance.assign(variance * kept + batch_variance * (1.0 - kept))
        return outputs

    def _fuses(self, x, mask) -> bool:
        if keras.backend.backend() != "tensorflow" or mask is not None or self.renorm:
            return False
        from inception_tf.nn import fused_batch_norm

        return (
            len(x.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(x.dtype) == self.compute_dtype
            and self.compute_dtype in fused_batch_norm.DTYPES
            and self.epsilon >= fused_batch_norm.LEAST_EPSILON
        )

    def _moments(self, inputs, mask):
        if mask is None and keras.backend.backend() == "tensorflow":
            from inception_tf.nn import fused_batch_norm

            if fused_batch_norm.replicas() > 1:
                return fused_batch_norm.moments_of_all(inputs, self._reduction_axes)
        return super()._moments(inputs, mask)

    @staticmethod
    def _as_float32(variable):
        return keras.ops.cast(variable, "float32")


@keras.saving.register_keras_serializable(package="inception_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """(N, H, W, C) → the same shape: each value over (bias + alpha/size * the sum of squares around it) ** beta.

    The sum goes over `size` neighbouring channels, the value's own in the middle.  Computed in
    float32.  Krizhevsky et al. 2012, section 3.3; the defaults are those of Caffe's GoogLeNet, whose
    alpha is divided by the size.
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, x):
        squares = keras.ops.square(keras.ops.cast(x, "float32"))
        # A product with a matrix of zeros and ones; slices, one a shift, take five times as long back.
        around = keras.ops.matmul(squares, self._neighbours(x.shape[-1]))
        scale = self._power(self.bias + self.alpha / self.size * around)
        return keras.ops.cast(keras.ops.cast(x, "float32") * scale, x.dtype)

    def _neighbours(self, channels: int) -> np.ndarray:
        """(C, C) float32, 1 where the row's channel is in the sum of the column's."""
        below, above = self.size // 2, (self.size - 1) // 2
        return np.tri(channels, k=below, dtype="float32") - np.tri(
            channels, k=-above - 1, dtype="float32"
        )

    def _power(self, total):
        if self.beta == 0.75:  # everybody's: two roots take a third of a power's time
            root = keras.ops.rsqrt(total)
            return root * keras.ops.sqrt(root)
        return keras.ops.power(total, -self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return super().get_config() | own
