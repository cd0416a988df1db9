# SPDX-License-Identifier: Apache-2.0
"""Preprocessing of single images as TensorFlow operations: crop, resize, scale.

Every step is a callable dataclass, so that steps can be printed: `(CentralCrop(0.875), Resize(299), ToUnit())`.
Evaluation, prediction and an exported SavedModel use the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from inception_tf.data.preprocessing import BILINEAR, SCALES, Preprocessing, Resampling, Scale

__all__ = [
    "CentralCrop",
    "ImageStep",
    "Resize",
    "ResizedSquare",
    "Standardize",
    "ToUnit",
    "apply_steps",
    "evaluation_steps",
    "resize",
    "scaling",
]

LARGE = 1 << 24  # values of one image, or of a batch; a photograph of 5 megapixels has fewer

ImageStep = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class CentralCrop:
    """Central crop of (H, W, C).  Slim's evaluation uses 0.875."""

    fraction: float  # of each side, in (0, 1]

    def __call__(self, image):
        return tf.image.central_crop(image, self.fraction)


@dataclass(frozen=True)
class Resize:
    """Resizing to a square, without keeping the aspect ratio, as in slim: (..., H, W, C) → (..., size, size, C) float32."""

    size: int  # pixels
    resampling: Resampling = BILINEAR

    def __call__(self, image):
        return resize(image, (self.size, self.size), self.resampling)


@dataclass(frozen=True)
class ResizedSquare:
    """Resizing, then a square of it, the central one by default: (..., H, W, C) → (..., size, size, C) float32.

    Both sides become `stored` pixels, whatever the aspect ratio, or the shorter side becomes `shorter` pixels with
    the aspect ratio kept; smaller images are enlarged.  Only the pixels of the square are computed, so that the
    time and the memory for a very long image do not grow with its length.
    """

    size: int  # pixels of each side of the square
    resampling: Resampling = BILINEAR
    stored: int | None = None  # of both sides before the crop
    shorter: int | None = None  # of the shorter side before the crop
    place: float = 0.5  # of the square along what is cut off: 0 the left and top edge, 1 the right and bottom one

    def __call__(self, image):
        image = tf.convert_to_tensor(image)
        sides = tf.shape(image)[-3:-1]
        resized = self._resized(sides)
        inverse = tf.cast(sides / resized, tf.float32)  # pixels of the image for one of the result
        if not self.resampling.half_pixel_centers:
            begin = tf.cast(tf.cast(resized - self.size, tf.float64) * self.place, tf.int32)
            return _bilinear_tf1(image, begin, inverse, (self.size, self.size))
        # As torchvision rounds: halves to the nearest even integer.
        begin = tf.cast(tf.round(tf.cast(resized - self.size, tf.float64) * self.place), tf.int32)
        first, after = self._covered(begin, inverse, sides)
        image = image[..., first[0] : after[0], first[1] : after[1], :]
        scale = 1 / inverse
        found = _batched(
            tf.raw_ops.ScaleAndTranslate,
            image,
            size=(self.size, self.size),
            scale=scale,
            translation=tf.cast(first, tf.float32) * scale - tf.cast(begin, tf.float32),
            kernel_type=KERNELS[self.resampling.interpolation],
            antialias=self.resampling.antialias,
        )
        return _clipped(found, self.resampling)

    def _resized(self, sides):
        """(2,) int32: the image's height and width after resizing."""
        if self.stored:
            return tf.fill((2,), self.stored)
        if (
            not self.resampling.half_pixel_centers
        ):  # slim's vgg_preprocessing._smallest_size_at_least
            scale = tf.cast(self.shorter, tf.float32) / tf.cast(tf.reduce_min(sides), tf.float32)
            return tf.cast(tf.math.rint(tf.cast(sides, tf.float32) * scale), tf.int32)
        # torchvision's Resize: the longer side is rounded down.
        long = tf.cast(sides, tf.int64) * self.shorter
        return tf.cast(long // tf.cast(tf.reduce_min(sides), tf.int64), tf.int32)

    def _covered(self, begin, inverse, sides):
        """The first pixel that the square depends on, and the one after the last, in both directions."""
        reach = SUPPORT * tf.maximum(inverse, 1.0) + 1.0
        begin = tf.cast(begin, tf.float32)
        first = tf.cast(tf.floor(begin * inverse - reach), tf.int32)
        after = tf.cast(tf.math.ceil((begin + self.size) * inverse + reach), tf.int32)
        return tf.maximum(first, 0), tf.minimum(after, sides)


KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}  # of ScaleAndTranslate; Pillow's too
SUPPORT = 2.0  # pixels that the wider of the kernels reaches, at scale 1


def resize(image: tf.Tensor, sides: tuple[int, int], resampling: Resampling) -> tf.Tensor:
    """Resize pixels to a height and a width.

    Args:
        image: (..., H, W, C) numbers in [0, 255].
        sides: Height and width in pixels.
        resampling: How pixels are computed.

    Returns:
        (..., height, width, C) float32 in [0, 255].
    """
    image = tf.convert_to_tensor(image)
    if not resampling.half_pixel_centers:
        return _batched(tf.raw_ops.ResizeBilinear, image, size=sides)

    def resized(image):
        found = tf.image.resize(
            image, sides, resampling.interpolation, antialias=resampling.antialias
        )
        return tf.cast(found, tf.float32)

    if resampling.antialias or image.dtype == tf.float32:
        return _clipped(resized(image), resampling)
    # The kernel is twice as fast on float32 as on uint8, with equal results; for a huge image the
    # copy would need four times the memory.
    found = tf.cond(
        tf.size(image) > LARGE,
        lambda: resized(image),
        lambda: resized(tf.cast(image, tf.float32)),
    )
    return _clipped(found, resampling)


def _batched(operation: Callable, image: tf.Tensor, **arguments: Any) -> tf.Tensor:
    """An operation on a batch of images, of a batch or of one image."""
    if image.shape.rank == 4:
        return operation(images=image, **arguments)
    return operation(images=image[tf.newaxis], **arguments)[0]


def _clipped(image: tf.Tensor, resampling: Resampling) -> tf.Tensor:
    """Pixels in [0, 255], which the bicubic kernel overshoots at edges."""
    return image if resampling.interpolation == "bilinear" else tf.clip_by_value(image, 0.0, 255.0)


def _bilinear_tf1(image, begin, inverse, sides):
    """A window of what TensorFlow 1's `resize_bilinear` returns, from its pixel `begin`; equal to the bit."""
    places = []
    for axis in range(2):
        at = (tf.range(sides[axis], dtype=tf.float32) + tf.cast(begin[axis], tf.float32)) * inverse[
            axis
        ]
        last = tf.shape(image)[axis - 3] - 1
        lower = tf.minimum(tf.cast(tf.floor(at), tf.int32), last)
        places.append((lower, tf.minimum(lower + 1, last), at - tf.floor(at)))
    (top, bottom, down), (left, right, along) = places
    # A long image: only the columns and rows that are read.
    image = image[..., top[0] : bottom[-1] + 1, left[0] : right[-1] + 1, :]
    top, bottom, left, right = top - top[0], bottom - top[0], left - left[0], right - left[0]

    def row(indices):
        rows = tf.gather(image, indices, axis=-3)
        first = tf.cast(tf.gather(rows, left, axis=-2), tf.float32)
        second = tf.cast(tf.gather(rows, right, axis=-2), tf.float32)
        return first + (second - first) * along[:, tf.newaxis]

    upper = row(top)
    return upper + (row(bottom) - upper) * down[:, tf.newaxis, tf.newaxis]


@dataclass(frozen=True)
class ToUnit:
    """Scaling from [0, 255] to [-1, 1] float32, as for all of slim's Inception networks."""

    def __call__(self, image):
        return tf.cast(image, tf.float32) / 127.5 - 1.0


@dataclass(frozen=True)
class Standardize:
    """Standardization of pixels in [0, 255] to float32 by a `Scale`."""

    scale: Scale

    def __call__(self, image):
        image = tf.cast(image, tf.float32)
        if self.scale.bgr:
            image = image[..., ::-1]
        return (image - self.scale.mean) / self.scale.deviation


def evaluation_steps(preprocessing: Preprocessing) -> tuple[ImageStep, ...]:
    """The steps of a preprocessing: resizing and central crop, in its order, and scaling.

    Args:
        preprocessing: What the weights expect.

    Returns:
        Callables for `apply_steps`, from (H, W, 3) uint8 to (size, size, 3) float32.
    """
    size, resampling = preprocessing.size, preprocessing.resampling
    stored, shorter = preprocessing.stored, preprocessing.shorter
    if stored or shorter:
        return ResizedSquare(size, resampling, stored, shorter), scaling(preprocessing)
    cropped = () if preprocessing.crop in (None, 1.0) else (CentralCrop(preprocessing.crop),)
    return (*cropped, Resize(size, resampling), scaling(preprocessing))


def scaling(preprocessing: Preprocessing) -> ImageStep:
    """The scaling step of a preprocessing.

    Args:
        preprocessing: What the weights expect.

    Returns:
        A callable for pixels in [0, 255].
    """
    return ToUnit() if preprocessing.scale == "unit" else Standardize(SCALES[preprocessing.scale])


def apply_steps(steps: tuple[ImageStep, ...], image: tf.Tensor) -> tf.Tensor:
    """Apply image steps in order.

    Args:
        steps: What `evaluation_steps` returned, or other callables.
        image: (H, W, C), what the first step accepts.

    Returns:
        What the last step returns.
    """
    for step in steps:
        image = step(image)
    return image
