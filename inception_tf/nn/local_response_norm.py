# SPDX-License-Identifier: Apache-2.0
"""Local response normalization, which Keras lacks, in `keras.ops`: a saved network needs nothing but Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from inception_tf.nn.keras_internals import require, saved_as

__all__ = [
    "LocalResponseNormalization",
    "LocalResponseNormalizationModel",
    "local_response_normalization",
]

require("register_internal_serializable")


def local_response_normalization(
    x: Any, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Any:
    """Divides each value by (bias + alpha/size * the sum of squares around it) ** beta.

    The sum is over `size` neighboring channels, centered on the value's own.  The defaults are those of
    Caffe's GoogLeNet, which divides alpha by the size.

    Args:
        x: (N, H, W, C), a tensor or a Keras tensor of any float type.
        size: channels in a sum, at least 1.
        alpha: factor of the mean square.
        beta: the exponent.
        bias: added to the sum.

    Returns:
        (N, H, W, C) float32.

    Source: Krizhevsky et al. 2012, section 3.3.
    """
    x = keras.ops.cast(x, "float32")
    # A product with a matrix of zeros and ones: the gradient of shifted slices takes five times as long.
    sums = keras.ops.matmul(keras.ops.square(x), _neighbors(x.shape[-1], size))
    total = bias + alpha / size * sums
    if beta != 0.75:
        return x * keras.ops.power(total, -beta)
    root = keras.ops.rsqrt(total)  # two roots take a third of the time of a power
    return x * (root * keras.ops.sqrt(root))


def _neighbors(channels: int, size: int) -> np.ndarray:
    """(C, C) float32, 1 where the row's channel is in the sum of the column's."""
    below, above = size // 2, (size - 1) // 2
    ones = np.tri(channels, k=below, dtype="float32")
    return ones - np.tri(channels, k=-above - 1, dtype="float32")


# In `.keras` files Keras' functional model, which it is; the older `.h5` cannot load operations, and names this class.
@saved_as("keras.src.models.sequential.Functional")
@keras.saving.register_keras_serializable(package="inception_tf")
class LocalResponseNormalizationModel(keras.Model):
    """`local_response_normalization` with its defaults as a model inside a network, with names of its own."""

    @classmethod
    def for_shape(
        cls, shape: tuple[int | None, ...], name: str | None = None
    ) -> LocalResponseNormalizationModel:
        """Builds the model.

        Args:
            shape: of one feature map, (H, W, C); H and W may be None.
            name: of the model.

        Returns:
            (N, H, W, C) of any float type → (N, H, W, C) float32.
        """
        x = keras.Input(shape, dtype="float32")
        return cls(x, local_response_normalization(x), name=name)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls.for_shape(config["layers"][0]["config"]["batch_shape"][1:], config["name"])


@keras.saving.register_keras_serializable(package="inception_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """`local_response_normalization` as the layer that networks saved by version 0.1.0 name.

    Args:
        size: channels in a sum, at least 1.
        alpha: factor of the mean square.
        beta: the exponent.
        bias: added to the sum.
        **kwargs: of `keras.layers.Layer`.
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
        self.settings: dict[str, Any] = {"size": size, "alpha": alpha, "beta": beta, "bias": bias}

    def call(self, x):
        return keras.ops.cast(local_response_normalization(x, **self.settings), x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | self.settings
