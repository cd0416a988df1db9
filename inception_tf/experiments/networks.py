# SPDX-License-Identifier: Apache-2.0
"""The small convolutional network that several experiments share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

__all__ = ["small_convnet"]

WIDTHS = (16, 32, 64)  # filters of the three convolutions, each of stride 2


def small_convnet(
    size: int,
    classes: int,
    *,
    seed: int,
    normalization: Callable[[], Any] = keras.layers.BatchNormalization,
    widths: Sequence[int] = WIDTHS,
) -> keras.Model:
    """Builds convolution, normalization, ReLU three times, and a linear classifier on all of the last feature map.

    Args:
        size: height and width of the images.
        classes: K.
        seed: of the initial weights.
        normalization: makes a layer that is put between a convolution and its ReLU.
        widths: filters of the convolutions, 3x3 with stride 2 and without bias.

    Returns:
        A model (N, size, size, 3) float32 → logits (N, K).
    """
    keras.utils.set_random_seed(seed)
    images = x = keras.Input((size, size, 3))
    for filters in widths:
        x = keras.layers.Conv2D(
            filters, 3, 2, "same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        x = keras.layers.Activation("relu")(normalization()(x))
    return keras.Model(images, keras.layers.Dense(classes)(keras.layers.Flatten()(x)))
