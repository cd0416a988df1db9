# SPDX-License-Identifier: Apache-2.0
"""Decoding and preprocessing of single images as TensorFlow operations: decode, crop, resize, scale.

Every step is a callable dataclass, so that steps can be printed: `(CentralCrop(0.875), Resize(299), ToUnit())`.
Evaluation, prediction and an exported SavedModel use the same steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
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
from inception_tf.data.preprocessing import BILINEAR, SCALES, Preprocessing, Resampling, Scale
from inception_tf.data.skipped import DAMAGED, OK

__all__ = [
    "DAMAGED",
    "OK",
    "PIXEL_LIMIT",
    "CentralCrop",
    "Resize",
    "ResizedCenter",
    "Standardize",
    "ToUnit",
    "apply_steps",
    "check_encoded",
    "decode",
    "decode_plain_jpeg",
    "evaluation_steps",
    "is_plain_jpeg",
    "read_image",
    "resize",
    "scaling",
    "starts_with",
    "with_fallback",
]

# TensorFlow's default is the fast transform, which is no faster, and off by one level in photographs and
# tens of levels at sharp edges.  This one gives libjpeg's pixels, as Pillow has them and other projects trained on.
DCT = "INTEGER_ACCURATE"
# The rare formats, which most data does not have.
decode_gif = prepared_when_called(gif.decode)
decode_bmp = prepared_when_called(bmp.decode)
LARGE = 1 << 24  # values of one image, or of a batch; a photograph of 5 megapixels has fewer

ImageStep = Callable[[tf.Tensor], tf.Tensor]


class RandomCrop(Hashable, Protocol):
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
class Resize:
    """Resizing to a square, without keeping the aspect ratio, as in slim: (..., H, W, C) → (..., size, size, C) float32."""

    size: int  # pixels
    resampling: Resampling = BILINEAR

    def __call__(self, image):
        return resize(image, (self.size, self.size), self.resampling)


@dataclass(frozen=True)
class ResizedCenter:
    """Resizing, then the central square: (..., H, W, C) → (..., size, size, C) float32.

    Both sides become `stored` pixels, whatever the aspect ratio, or the shorter side becomes `shorter` pixels with
    the aspect ratio kept; smaller images are enlarged.  Only the pixels of the square are computed, so that the
    time and the memory for a very long image do not grow with its length.
    """

    size: int  # pixels of each side of the square
    resampling: Resampling = BILINEAR
    stored: int | None = None  # of both sides before the crop
    shorter: int | None = None  # of the shorter side before the crop

    def __call__(self, image):
        image = tf.convert_to_tensor(image)
        sides = tf.shape(image)[-3:-1]
        resized = self._resized(sides)
        inverse = tf.cast(sides / resized, tf.float32)  # pixels of the image for one of the result
        if not self.resampling.half_pixel_centers:
            begin = (resized - self.size) // 2
            return _bilinear_tf1(image, begin, inverse, (self.size, self.size))
        # As torchvision rounds: halves to the nearest even integer.
        begin = tf.cast(tf.round((resized - self.size) / 2), tf.int32)
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

    if resampling.antialias:
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
        return ResizedCenter(size, resampling, stored, shorter), scaling(preprocessing)
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
