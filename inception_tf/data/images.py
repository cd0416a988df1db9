# SPDX-License-Identifier: Apache-2.0
"""One image at a time, as TensorFlow graph operations: check, decode, crop, resize, scale.

Every step is a small value that can be printed and called: `(CentralCrop(0.875), Resize(299), ToUnit())`.
The same steps run in evaluation, in prediction and inside an exported SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from inception_tf.data.preprocessing import SCALES, Preprocessing, Scale

__all__ = [
    "OK",
    "PIXEL_LIMIT",
    "CentralCrop",
    "Resize",
    "Standardize",
    "ToUnit",
    "check",
    "compose",
    "decode",
    "evaluation_steps",
]

OK = "ok"
PIXEL_LIMIT = 50_000_000  # height x width read from the header; 150 MB once decoded to RGB
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

ImageStep = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class CentralCrop:
    """(H, W, C) → its centre, `fraction` of each side.  Slim's evaluation uses 0.875."""

    fraction: float

    def __call__(self, image):
        return tf.image.central_crop(image, self.fraction)


@dataclass(frozen=True)
class Resize:
    """(H, W, C) → (size, size, C) float32 in the range of the input; aspect not kept, as in slim."""

    size: int
    interpolation: str = "bilinear"

    def __call__(self, image):
        return tf.image.resize(image, (self.size, self.size), self.interpolation)


@dataclass(frozen=True)
class ToUnit:
    """Values from 0..255 to -1..1 float32, as all of slim's Inceptions take them."""

    def __call__(self, image):
        return tf.cast(image, tf.float32) / 127.5 - 1.0


@dataclass(frozen=True)
class Standardize:
    """Values from 0..255 less a mean, over a deviation → float32; channels reversed for `bgr`."""

    scale: Scale

    def __call__(self, image):
        image = tf.cast(image, tf.float32)
        if self.scale.bgr:
            image = image[..., ::-1]
        return (image - self.scale.mean) / self.scale.deviation


def evaluation_steps(view: Preprocessing) -> tuple[ImageStep, ...]:
    """The centre of an image, resized and scaled, as `view` states it."""
    cropped = () if view.crop in (None, 1.0) else (CentralCrop(view.crop),)
    scaled = ToUnit() if view.scale == "unit" else Standardize(SCALES[view.scale])
    return (*cropped, Resize(view.size, view.interpolation), scaled)


def compose(steps: tuple[ImageStep, ...], image):
    """`steps` on an image, first to last."""
    for step in steps:
        image = step(image)
    return image


def check(data, pixel_limit: int = PIXEL_LIMIT):
    """`ok`, or in a few words why an encoded image is refused before anything is decoded.

    data: () string → () string.  Only the header is read; where it is torn the operation fails
    with `InvalidArgumentError`, so callers run it where an error of one image stays with that image.
    """
    is_jpeg = _starts_with(data, JPEG_MAGIC)
    is_png = _starts_with(data, PNG_MAGIC)

    def judge_size():
        height, width = tf.cond(is_jpeg, lambda: _jpeg_size(data), lambda: _png_size(data))
        text = tf.strings.format("{}x{} pixels, at most {} are read", (width, height, pixel_limit))
        fits = height * width <= pixel_limit
        return tf.where(fits, OK, text)

    return tf.case(
        [
            (tf.equal(tf.strings.length(data), 0), lambda: tf.constant("empty")),
            (tf.logical_not(is_jpeg | is_png), lambda: tf.constant("not a JPEG or PNG image")),
        ],
        default=judge_size,
        exclusive=False,
    )


def decode(data):
    """One JPEG or PNG of any kind, () string → (H, W, 3) uint8; `InvalidArgumentError` where it is damaged."""
    # channels=0 on an animated WebP corrupts TensorFlow 2.20's heap: always 3, and never unchecked bytes.
    image = tf.image.decode_image(data, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return image


def _starts_with(data, magic: bytes):
    size = tf.minimum(tf.strings.length(data), len(magic))
    return tf.equal(tf.strings.substr(data, 0, size), magic)


def _jpeg_size(data):
    shape = tf.cast(tf.image.extract_jpeg_shape(data), tf.int64)
    return shape[0], shape[1]


def _png_size(data):
    # Bytes 16-23 of a PNG are width and height, big-endian (PNG specification, IHDR).
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), tf.int64)
    weights = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    return tf.reduce_sum(header[4:8] * weights), tf.reduce_sum(header[0:4] * weights)
