# SPDX-License-Identifier: Apache-2.0
"""Decoding and preprocessing of single images as TensorFlow operations: decode, crop, resize, scale.

Every step is a callable dataclass, so that steps can be printed: `(CentralCrop(0.875), Resize(299), ToUnit())`.
Evaluation, prediction and an exported SavedModel use the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

from inception_tf.data.decoding.exif import has_no_exif, read_orientation, rotate_upright
from inception_tf.data.decoding.validation import (
    JPEG_MAGIC,
    PIXEL_LIMIT,
    check_encoded,
    starts_with,
)
from inception_tf.data.preprocessing import SCALES, Preprocessing, Scale
from inception_tf.data.skipped import DAMAGED, OK

__all__ = [
    "DAMAGED",
    "OK",
    "PIXEL_LIMIT",
    "CentralCrop",
    "CentralPixels",
    "Resize",
    "Standardize",
    "ToUnit",
    "apply_steps",
    "check_encoded",
    "decode",
    "decode_crop",
    "decode_plain_jpeg",
    "evaluation_steps",
    "is_plain_jpeg",
    "scaling",
    "starts_with",
    "with_fallback",
]

# TensorFlow's default is the fast transform, which is no faster, and off by one level in photographs and
# tens of levels at sharp edges.  This one gives libjpeg's pixels, as Pillow has them and other projects trained on.
DCT = "INTEGER_ACCURATE"
LARGE = 1 << 24  # values of one image, or of a batch; a photograph of 5 megapixels has fewer

ImageStep = Callable[[tf.Tensor], tf.Tensor]


class RandomCrop(Protocol):
    """A crop that can be drawn without the pixels, such as `distortions.RandomResizedCrop`."""

    def sample(self, shape: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(3,) int32 shape, (2,) int seed → (3,) int32 begin and size."""

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The crop of decoded pixels."""


@dataclass(frozen=True)
class CentralCrop:
    """Central crop of (H, W, C).  Slim's evaluation uses 0.875."""

    fraction: float  # of each side, in (0, 1]

    def __call__(self, image):
        return tf.image.central_crop(image, self.fraction)


@dataclass(frozen=True)
class CentralPixels:
    """Central crop after resizing, as in Caffe: (..., H, W, C) → (..., size, size, C).

    Caffe stores ImageNet at 256x256, whatever the images' aspect ratios, and crops 224x224 from it.  Shorter
    sides are not enlarged.
    """

    size: int  # pixels of each side of the crop, at most
    stored: int  # pixels that longer sides are shortened to before
    interpolation: str = "bilinear"  # as `tf.image.resize` names it

    def __call__(self, image):
        sides = tf.minimum(tf.shape(image)[-3:-1], self.stored)
        image = tf.image.resize(image, sides, self.interpolation)
        taken = tf.minimum(sides, self.size)
        begin = (sides - taken) // 2
        end = begin + taken
        return image[..., begin[0] : end[0], begin[1] : end[1], :]


@dataclass(frozen=True)
class Resize:
    """Resizing to a square, without keeping the aspect ratio, as in slim: (H, W, C) → (size, size, C) float32."""

    size: int  # pixels
    interpolation: str = "bilinear"  # as `tf.image.resize` names it

    def __call__(self, image):
        # The kernel is twice as fast on float32 as on uint8, with equal results; for a huge image the
        # copy would need four times the memory.
        return tf.cond(
            tf.size(image) > LARGE,
            lambda: self._resize(image),
            lambda: self._resize(tf.cast(image, tf.float32)),
        )

    def _resize(self, image):
        resized = tf.image.resize(image, (self.size, self.size), self.interpolation)
        return tf.cast(resized, tf.float32)  # "nearest" keeps the dtype


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
    """The steps of a preprocessing: central crop, resizing and scaling.

    Args:
        preprocessing: What the weights expect.

    Returns:
        Callables for `apply_steps`, from (H, W, 3) uint8 to (size, size, 3) float32.
    """
    cropped: tuple[ImageStep, ...]
    if preprocessing.stored:
        cropped = (
            CentralPixels(preprocessing.size, preprocessing.stored, preprocessing.interpolation),
        )
    else:
        cropped = () if preprocessing.crop in (None, 1.0) else (CentralCrop(preprocessing.crop),)
    return (
        *cropped,
        Resize(preprocessing.size, preprocessing.interpolation),
        scaling(preprocessing),
    )


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


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG or PNG of any kind to RGB, rotated upright by a JPEG's EXIF orientation.

    CMYK, gray and palettes become RGB, 16 bits become 8, transparency is dropped.  The operation fails
    with `InvalidArgumentError` if the image is damaged.

    Args:
        data: () string.

    Returns:
        (H, W, 3) uint8.
    """

    def from_jpeg():
        image = tf.image.decode_jpeg(data, channels=3, dct_method=DCT)
        return rotate_upright(image, read_orientation(data))

    is_jpeg = starts_with(data, JPEG_MAGIC)
    image = tf.cond(is_jpeg, from_jpeg, lambda: tf.image.decode_png(data, channels=3))
    image.set_shape((None, None, 3))
    return image


def decode_crop(data: tf.Tensor, crop: RandomCrop, seed: tf.Tensor) -> tf.Tensor:
    """Decode a random crop of an image as `decode` does; of a JPEG, only the pixels of the crop.

    Args:
        data: () string.
        crop: Draws the crop.
        seed: (2,) int.

    Returns:
        (h, w, 3) uint8.
    """

    def part_of_jpeg():
        turn = read_orientation(data)
        shape = tf.image.extract_jpeg_shape(data)
        # In a rotated image width and height are exchanged, and so they are in the crop.
        begin, size = tf.cond(
            turn >= 5,
            lambda: tuple(part[::-1] for part in _sample(crop, shape[1::-1], seed)),
            lambda: _sample(crop, shape[:2], seed),
        )
        return rotate_upright(_decode_window(data, begin, size), turn)

    return tf.cond(starts_with(data, JPEG_MAGIC), part_of_jpeg, lambda: crop(decode(data), seed))


def is_plain_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether an image is a JPEG without EXIF that passes `check_encoded`, as nearly all are.

    Args:
        data: () string.

    Returns:
        () bool.
    """

    def fits():
        return tf.reduce_prod(tf.image.extract_jpeg_shape(data)[:2]) <= PIXEL_LIMIT

    return tf.cond(has_no_exif(data), fits, lambda: tf.constant(False))


def decode_plain_jpeg(data: tf.Tensor, crop: RandomCrop | None, seed: tf.Tensor) -> tf.Tensor:
    """Decode what `is_plain_jpeg` accepts, faster than `decode_crop` and `decode`, with equal pixels.

    Args:
        data: () string.
        crop: Draws the crop; None for the whole image.
        seed: (2,) int.

    Returns:
        (h, w, 3) uint8.
    """
    if crop is None:
        return tf.image.decode_jpeg(data, channels=3, dct_method=DCT)
    shape = tf.image.extract_jpeg_shape(data)
    return _decode_window(data, *_sample(crop, shape[:2], seed))


def with_fallback(read: Callable, item: Any, otherwise: Any) -> Any:
    """The result of a function, or a fallback if one of its operations fails.

    Args:
        read: Callable with `item`.
        item: A nest of tensors.
        otherwise: Tensors of the dtypes and shapes that `read` returns.

    Returns:
        `read(item)` or `otherwise`.
    """
    # A failing operation aborts the whole call, but inside a dataset only one element, which the
    # fallback then replaces.
    return (
        tf.data.Dataset.from_tensors(item)
        .map(read)
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors(otherwise))
        .take(1)
        .get_single_element()
    )


def _decode_window(data, begin, size):
    window = tf.concat((begin, size), 0)
    return tf.image.decode_and_crop_jpeg(data, window, channels=3, dct_method=DCT)


def _sample(crop: RandomCrop, size: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    begin, extent = crop.sample(tf.concat((size, (3,)), 0), seed)
    return begin[:2], extent[:2]
