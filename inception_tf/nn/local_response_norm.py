# SPDX-License-Identifier: Apache-2.0
"""Local response normalization, which Keras lacks, in `keras.ops`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

__all__ = ["LocalResponseNormalization"]


@keras.saving.register_keras_serializable(package="inception_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Each value over (bias + alpha/size * the sum of squares around it) ** beta: (N, H, W, C) → the same shape.

    The sum is over `size` neighboring channels, centered on the value's own.  Computed in float32.  The
    defaults are those of Caffe's GoogLeNet, which divides alpha by the size.

    Args:
        size: channels in a sum, at least 1.
        alpha: factor of the mean square.
        beta: the exponent.
        bias: added to the sum.
        **kwargs: of `keras.layers.Layer`.

    Source: Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, x):
        squares = keras.ops.square(keras.ops.cast(x, "float32"))
        # A product with a matrix of zeros and ones: the gradient of shifted slices takes five times as long.
        around = keras.ops.matmul(squares, self._neighbors(x.shape[-1]))
        scale = self._power(self.bias + self.alpha / self.size * around)
        return keras.ops.cast(keras.ops.cast(x, "float32") * scale, x.dtype)

    def _neighbors(self, channels: int) -> np.ndarray:
        """(C, C) float32, 1 where the row's channel is in the sum of the column's."""
        below, above = self.size // 2, (self.size - 1) // 2
        return np.tri(channels, k=below, dtype="float32") - np.tri(
            channels, k=-above - 1, dtype="float32"
        )

    def _power(self, total):
        if self.beta == 0.75:  # in all networks here: two roots take a third of the time of a power
            root = keras.ops.rsqrt(total)
            return root * keras.ops.sqrt(root)
        return keras.ops.power(total, -self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return super().get_config() | own
