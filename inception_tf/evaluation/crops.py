# SPDX-License-Identifier: Apache-2.0
"""Several views of one image, whose probabilities are averaged: the 10 crops of AlexNet, the 144 of GoogLeNet."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from inception_tf.data.decoding.images import ImageStep, evaluation_steps, scaling
from inception_tf.data.preprocessing import Preprocessing

__all__ = ["CROPS", "TenCrops", "GoogLeNetCrops", "crop_steps"]

CROPS = (1, 10, 144)
REFERENCE = 224  # pixels: the papers' network input, which their other sizes belong to
TEN_CROPS_SIDE = 256  # Krizhevsky et al. 2012, section 4.1
SCALES = (256, 288, 320, 352)  # Szegedy et al. 2014, section 7, item 2
PLACES = (0.0, 0.5, 1.0)  # left, centre and right square, or top, centre and bottom


@dataclass(frozen=True)
class TenCrops:
    """(H, W, 3) → (10, size, size, 3) float32 0..255: four corners and the centre, and these mirrored.

    They are taken from the central square, resized to 256/224 of `size`.  Krizhevsky et al. 2012,
    section 4.1.
    """

    size: int
    interpolation: str = "bilinear"

    def __call__(self, image):
        square = _resized(_square(image, 0.5), _scaled(TEN_CROPS_SIDE, self.size), self)
        return _with_mirrored(tf.stack(_five(square, self.size)))


@dataclass(frozen=True)
class GoogLeNetCrops:
    """(H, W, 3) → (144, size, size, 3) float32 0..255, GoogLeNet's crops: 4 scales x 3 squares x 6 x 2.

    Scales: the shorter side at 256, 288, 320 and 352, times `size`/224.  Squares: left, centre and
    right of a wide image; top, centre and bottom of a high one; three times the same of a square one.
    Of each the four corners, the centre and the square itself resized; and these mirrored.  Szegedy
    et al. 2014, section 7.
    """

    size: int
    interpolation: str = "bilinear"

    def __call__(self, image):
        # A square is cut out first and resized then: the whole of a very long image would not fit.
        squares = [_square(image, place) for place in PLACES]
        crops = []
        for scale in SCALES:
            for square in squares:
                resized = _resized(square, _scaled(scale, self.size), self)
                crops += [*_five(resized, self.size), _resized(square, self.size, self)]
        return _with_mirrored(tf.stack(crops))


def crop_steps(preprocessing: Preprocessing, crops: int = 1) -> tuple[ImageStep, ...]:
    """An image as `preprocessing` wants it: (size, size, 3) for 1 crop, else (crops, size, size, 3) float32.

    crops: 1, the centre as `preprocessing` cuts it; 10 or 144, of which `preprocessing` gives size and scale alone.
    """
    if crops == 1:
        return evaluation_steps(preprocessing)
    kind = {10: TenCrops, 144: GoogLeNetCrops}[crops]
    return kind(preprocessing.size, preprocessing.interpolation), scaling(preprocessing)


def _scaled(pixels: int, size: int) -> int:
    return round(pixels * size / REFERENCE)


def _square(image, place: float):
    """The square of the shorter side, `place` of the way along the longer one."""
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    begin = tf.cast(tf.round(tf.cast(shape[:2] - side, tf.float32) * place), tf.int32)
    return image[begin[0] : begin[0] + side, begin[1] : begin[1] + side]


def _resized(image, side: int, like):
    return tf.image.resize(image, (side, side), like.interpolation)


def _five(square, size: int) -> list:
    """Upper left, upper right, lower left, lower right and centre, (size, size, 3) each."""
    end = square.shape[0] - size
    corners = ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2))
    return [square[top : top + size, left : left + size] for top, left in corners]


def _with_mirrored(crops):
    return tf.concat((crops, crops[:, :, ::-1]), 0)
