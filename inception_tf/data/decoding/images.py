# SPDX-License-Identifier: Apache-2.0
"""Decoding of single images as TensorFlow operations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import tensorflow as tf

from inception_tf.data.decoding import bmp, gif, png, webp
from inception_tf.data.decoding.alpha import composite
from inception_tf.data.decoding.exif import (
    has_no_exif,
    orientation_at,
    read_orientation,
    rotate_upright,
)
from inception_tf.data.decoding.prepared import prepared_when_called
from inception_tf.data.decoding.validation import (
    BMP,
    GIF,
    JPEG_MAGIC,
    OTHER,
    PIXEL_LIMIT,
    PNG,
    WEBP,
    check_encoded,
    check_jpeg,
    fits_limit,
    read_header,
    starts_with,
)
from inception_tf.data.decoding.work import has_few_scans
from inception_tf.data.skipped import DAMAGED, OK

__all__ = [
    "DAMAGED",
    "OK",
    "PIXEL_LIMIT",
    "check_encoded",
    "decode",
    "decode_plain_jpeg",
    "is_plain_jpeg",
    "read_image",
    "starts_with",
    "with_fallback",
]

# TensorFlow's default is the fast transform, which is no faster, and off by one level in photographs and
# tens of levels at sharp edges.  This one gives libjpeg's pixels, as Pillow has them and other projects trained on.
DCT = "INTEGER_ACCURATE"
# The rare formats, which most data does not have.
decode_gif = prepared_when_called(gif.decode)
decode_bmp = prepared_when_called(bmp.decode)


class RandomCrop(Hashable, Protocol):
    """A crop that can be drawn without the pixels, such as `distortions.RandomResizedCrop`."""

    def sample(self, shape: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(3,) int32 shape, (2,) int seed → (3,) int32 begin and size."""

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The crop of decoded pixels."""


def decode(data: tf.Tensor, *, bits: int = 16) -> tf.Tensor:
    """Decode an image that `check_encoded` accepts to RGB, rotated upright by its EXIF orientation.

    CMYK, gray and palettes become RGB, transparent images are composited on white, of an animated GIF the
    first frame is read.  The operation fails with `InvalidArgumentError` if the image is damaged.

    Args:
        data: () string.
        bits: int from 8 to 16. Bits that samples of 16 bits use; the highest 8 of them are kept.

    Returns:
        (H, W, 3) uint8.
    """
    status, image = read_image(data, bits=bits)
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(status, OK), [status])]):
        return tf.identity(image)


def read_image(
    data: tf.Tensor,
    crop: RandomCrop | None = None,
    seed: tf.Tensor | None = None,
    *,
    bits: int = 16,
    pixel_limit: int = PIXEL_LIMIT,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Check an image as `check_encoded` does, and decode it, or a random crop of it, as `decode` does.

    Args:
        data: () string.
        crop: Draws a crop; of a JPEG, only its pixels are decoded.
        seed: (2,) int. Of the crop.
        bits: int from 8 to 16. Bits that samples of 16 bits use.
        pixel_limit: int. The largest height x width.

    Returns:
        The status, () string, and (H, W, 3) uint8; one black pixel if the status is not `ok`.
    """

    def from_others():
        status, image = _other_reader(bits, pixel_limit)(data)
        if crop is None:
            return status, image
        return status, tf.cond(tf.equal(status, OK), lambda: crop(image, seed), lambda: image)

    def from_jpeg():
        if crop is None:
            return _jpeg_reader(None, pixel_limit)(data)
        drawn = tf.convert_to_tensor(seed)
        return _jpeg_reader(crop, pixel_limit, tf.TensorSpec((2,), drawn.dtype))(data, drawn)

    status, image = tf.cond(starts_with(data, JPEG_MAGIC), from_jpeg, from_others)
    image.set_shape((None, None, 3))
    return status, image


def _one_pixel():
    return tf.zeros((1, 1, 3), tf.uint8)


def _decode_jpeg(data, shape, crop, seed):
    turn = read_orientation(data)
    if crop is None:
        image = tf.image.decode_jpeg(data, channels=3, dct_method=DCT)
        return rotate_upright(image, turn)
    # In a rotated image width and height are exchanged, and so they are in the crop.
    begin, size = tf.cond(
        turn >= 5,
        lambda: tuple(part[::-1] for part in _sample(crop, shape[1::-1], seed)),
        lambda: _sample(crop, shape[:2], seed),
    )
    return rotate_upright(_decode_window(data, begin, size), turn)


@functools.cache
def _jpeg_reader(crop: RandomCrop | None, pixel_limit: int, *drawn: tf.TensorSpec) -> Callable:
    """A function of a JPEG and of the crop's seed, if there is one, which gives its status and its pixels."""

    def read_jpeg(data, seed=None):
        shape = tf.image.extract_jpeg_shape(data)
        status = check_jpeg(data, shape, pixel_limit)
        image = tf.cond(
            tf.equal(status, OK), lambda: _decode_jpeg(data, shape, crop, seed), _one_pixel
        )
        image.set_shape((None, None, 3))
        return status, image

    return prepared_when_called(read_jpeg, tf.TensorSpec((), tf.string), *drawn)


@functools.cache
def _other_reader(bits: int, pixel_limit: int) -> Callable:
    """A function of an image that is no JPEG, which gives its status and its pixels."""

    def read_other(data):
        header = read_header(data, pixel_limit)
        decoders = {
            0: lambda: png.decode(data, header, bits),
            WEBP - PNG: lambda: webp.decode(data),
            GIF - PNG: lambda: decode_gif(data, header),
            BMP - PNG: lambda: decode_bmp(data, header),
            OTHER - PNG: _one_pixel,
        }

        def upright():
            image = composite(tf.switch_case(header.kind - PNG, decoders))
            # Only PNG and WebP have EXIF, and its place is the first of theirs.
            tiff = tf.where(header.kind <= WEBP, header.places[0], 0)
            return rotate_upright(image, orientation_at(data, tiff))

        image = tf.cond(tf.equal(header.status, OK), upright, _one_pixel)
        image.set_shape((None, None, 3))
        return header.status, image

    return prepared_when_called(read_other, tf.TensorSpec((), tf.string))


def is_plain_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether an image is a JPEG without EXIF that passes `check_encoded`, as nearly all are.

    Args:
        data: () string.

    Returns:
        () bool.
    """

    def fits():
        shape = tf.image.extract_jpeg_shape(data)
        return fits_limit(shape[0], shape[1]) & has_few_scans(data, shape[0], shape[1])

    return tf.cond(has_no_exif(data), fits, lambda: tf.constant(False))


def decode_plain_jpeg(data: tf.Tensor, crop: RandomCrop | None, seed: tf.Tensor) -> tf.Tensor:
    """Decode what `is_plain_jpeg` accepts, faster than `read_image`, with equal pixels.

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
