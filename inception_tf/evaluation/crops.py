# SPDX-License-Identifier: Apache-2.0
"""Test-time crops of one image, whose probabilities are averaged: the 10 of AlexNet, the 144 of GoogLeNet."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from inception_tf.data.decoding.transforms import (
    ImageStep,
    ResizedSquare,
    evaluation_steps,
    resize,
    scaling,
)
from inception_tf.data.preprocessing import BILINEAR, Preprocessing, Resampling

__all__ = ["GoogLeNetCrops", "TenCrops", "crop_steps"]

REFERENCE = 224  # pixels: the papers' input size, which the sizes below belong to
TEN_CROPS_SIDE = 256  # Krizhevsky et al. 2012, section 4.1
SCALES = (256, 288, 320, 352)  # Szegedy et al. 2014, section 7, item 2
PLACES = (0.0, 0.5, 1.0)  # left, center and right square, or top, center and bottom


@dataclass(frozen=True)
class TenCrops:
    """Cuts (H, W, 3) → (10, size, size, 3) float32 in [0, 255]: four corners, the center, and their mirror images.

    They are taken from the central square, resized to 256/224 of `size`.  Krizhevsky et al. 2012,
    section 4.1.
    """

    size: int
    resampling: Resampling = BILINEAR

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        square = _resized(_square(image), _scaled(TEN_CROPS_SIDE, self.size), self.resampling)
        return _with_mirrored(tf.stack(_five(square, self.size)))


@dataclass(frozen=True)
class GoogLeNetCrops:
    """Cuts (H, W, 3) → (144, size, size, 3) float32 in [0, 255]: 4 scales x 3 squares x 6 crops x 2 mirror images.

    In the paper's order: the image is resized until its shorter side is 256, 288, 320 and 352, times
    `size`/224; of each the left, center and right square are taken, of a tall one the top, center and bottom;
    of each square the four corners, the center, and the square resized to `size`.  All 144 are distinct, of a
    square image 48, three times each.  Szegedy et al. 2014, section 7.
    """

    size: int
    resampling: Resampling = BILINEAR

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        crops = []
        for scale in SCALES:
            side = _scaled(scale, self.size)
            for place in PLACES:
                square = ResizedSquare(side, self.resampling, shorter=side, place=place)(image)
                crops += [
                    *_five(square, self.size),
                    _resized(square, self.size, self.resampling),
                ]
        return _with_mirrored(tf.stack(crops))


def crop_steps(preprocessing: Preprocessing, crops: int = 1) -> tuple[ImageStep, ...]:
    """The image steps of an evaluation with one or several crops.

    Args:
        preprocessing: how a single crop is cut, resized and scaled; of several crops it decides size, scale
            and resampling only.
        crops: 1, 10 or 144.

    Returns:
        Functions to compose: uint8 (H, W, 3) → float32 (size, size, 3), or (crops, size, size, 3).
    """
    if crops == 1:
        return evaluation_steps(preprocessing)
    cut = TenCrops if crops == 10 else GoogLeNetCrops
    return cut(preprocessing.size, preprocessing.resampling), scaling(preprocessing)


def _scaled(pixels: int, size: int) -> int:
    return round(pixels * size / REFERENCE)


def _square(image: tf.Tensor) -> tf.Tensor:
    """The central square of the shorter side."""
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    start = tf.cast(tf.round(tf.cast(shape[:2] - side, tf.float32) / 2), tf.int32)
    return image[start[0] : start[0] + side, start[1] : start[1] + side]


def _resized(image: tf.Tensor, side: int, resampling: Resampling) -> tf.Tensor:
    return resize(image, (side, side), resampling)


def _five(square: tf.Tensor, size: int) -> list[tf.Tensor]:
    """Upper left, upper right, lower left, lower right and center, (size, size, 3) each."""
    end = square.shape[0] - size
    corners = ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2))
    return [square[top : top + size, left : left + size] for top, left in corners]


def _with_mirrored(crops: tf.Tensor) -> tf.Tensor:
    return tf.concat((crops, crops[:, :, ::-1]), 0)
