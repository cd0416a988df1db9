# SPDX-License-Identifier: Apache-2.0
"""The few layers that Keras lacks, in `keras.ops` alone; registered, so that a saved model loads by itself."""

from __future__ import annotations

import keras

__all__ = ["LocalResponseNormalization"]


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
        reach = self.size // 2
        channels = x.shape[-1]
        padded = keras.ops.pad(squares, ((0, 0), (0, 0), (0, 0), (reach, reach)))
        around = sum(padded[..., shift : shift + channels] for shift in range(self.size))
        scale = keras.ops.power(self.bias + self.alpha / self.size * around, -self.beta)
        return keras.ops.cast(keras.ops.cast(x, "float32") * scale, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return super().get_config() | own
