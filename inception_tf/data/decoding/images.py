# SPDX-License-Identifier: Apache-2.0
"""One image at a time, as TensorFlow graph operations: decode, crop, resize, scale.

Every step is a small value that can be printed and called: `(CentralCrop(0.875), Resize(299), ToUnit())`.
The same steps run in evaluation, in prediction and inside an exported SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from inception_tf.data.decoding.exif import has_no_exif, orientation, upright
from inception_tf.data.decoding.validation import JPEG_MAGIC, PIXEL_LIMIT, check, starts_with
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
    "attempt",
    "check",
    "compose",
    "decode",
    "decode_box",
    "decode_ordinary",
    "evaluation_steps",
    "is_ordinary",
    "scaling",
    "starts_with",
]

# TensorFlow's default is the fast transform: a level off on photographs, tens on sharp edges, and no
# faster.  This one gives libjpeg's own pixels, which Pillow shows and other projects trained on.
DCT = "INTEGER_ACCURATE"
LARGE = 1 << 24  # values of one image, or of a batch; a photograph of 5 megapixels has fewer

ImageStep = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class CentralCrop:
    """(H, W, C) → its centre, `fraction` of each side.  Slim's evaluation uses 0.875."""

    fraction: float

    def __call__(self, image):
        return tf.image.central_crop(image, self.fraction)


@dataclass(frozen=True)
class CentralPixels:
    """(..., H, W, C) → at most (size, size) of its centre, each side first shortened to `stored`; never enlarged.

    Caffe keeps ImageNet at 256x256, whatever the images' shapes, and cuts 224x224 out of what is kept.
    """

    size: int
    stored: int
    interpolation: str = "bilinear"

    def __call__(self, image):
        sides = tf.minimum(tf.shape(image)[-3:-1], self.stored)
        image = tf.image.resize(image, sides, self.interpolation)
        taken = tf.minimum(sides, self.size)
        begin = (sides - taken) // 2
        end = begin + taken
        return image[..., begin[0] : end[0], begin[1] : end[1], :]


@dataclass(frozen=True)
class Resize:
    """(H, W, C) → (size, size, C) float32 in the range of the input; aspect not kept, as in slim."""

    size: int
    interpolation: str = "bilinear"

    def __call__(self, image):
        # The kernel is twice as fast on float32 as on uint8, and gives the same; of a huge image the
        # copy would be four times what was decoded.
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


def evaluation_steps(preprocessing: Preprocessing) -> tuple[ImageStep, ...]:
    """The centre of an image, resized and scaled, as `preprocessing` states it."""
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
    """Pixels from 0 to 255 into the range that `preprocessing` states."""
    return ToUnit() if preprocessing.scale == "unit" else Standardize(SCALES[preprocessing.scale])


def compose(steps: tuple[ImageStep, ...], image):
    """`steps` on an image, first to last."""
    for step in steps:
        image = step(image)
    return image


def decode(data):
    """One JPEG or PNG of any kind, () string → (H, W, 3) uint8, upright; `InvalidArgumentError` where it is damaged.

    CMYK becomes RGB, 16 bits become 8, a palette and gray become colours, transparency is dropped;
    an orientation is read from a JPEG's EXIF alone.
    """

    def from_jpeg():
        image = tf.image.decode_jpeg(data, channels=3, dct_method=DCT)
        return upright(image, orientation(data))

    is_jpeg = starts_with(data, JPEG_MAGIC)
    image = tf.cond(is_jpeg, from_jpeg, lambda: tf.image.decode_png(data, channels=3))
    image.set_shape((None, None, 3))
    return image


def decode_box(data, box, seed):
    """As `decode`, a random box of the image: of a JPEG, pixels outside of it are never computed.

    box: a distortion whose `sample(shape, seed)` gives (3,) int32 begin and size.  seed: (2,) int.
    """

    def part_of_jpeg():
        turn = orientation(data)
        shape = tf.image.extract_jpeg_shape(data)
        # Lying on its side, an image has its width and height exchanged, and so has the box.
        begin, size = tf.cond(
            turn >= 5,
            lambda: tuple(part[::-1] for part in _box_of(box, shape[1::-1], seed)),
            lambda: _box_of(box, shape[:2], seed),
        )
        return upright(_cut_jpeg(data, begin, size), turn)

    return tf.cond(starts_with(data, JPEG_MAGIC), part_of_jpeg, lambda: box(decode(data), seed))


def is_ordinary(data):
    """Is () string a JPEG that `check` passes and that stands upright, as nearly all do?  () bool."""

    def fits():
        return tf.reduce_prod(tf.image.extract_jpeg_shape(data)[:2]) <= PIXEL_LIMIT

    return tf.cond(has_no_exif(data), fits, lambda: tf.constant(False))


def decode_ordinary(data, box, seed):
    """What `decode_box` gives, or without a box `decode`, for what `is_ordinary`: the same pixels, sooner."""
    if box is None:
        return tf.image.decode_jpeg(data, channels=3, dct_method=DCT)
    shape = tf.image.extract_jpeg_shape(data)
    return _cut_jpeg(data, *_box_of(box, shape[:2], seed))


def attempt(read: Callable, item, otherwise):
    """`read(item)`, or `otherwise` where an operation in it fails: an error that stays with one image.

    item: a nest of tensors.  otherwise: tensors of the dtypes and shapes that `read` gives.
    """
    # An operation that fails ends the whole call; inside a dataset it ends one element, which the
    # placeholder then replaces.
    return (
        tf.data.Dataset.from_tensors(item)
        .map(read)
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors(otherwise))
        .take(1)
        .get_single_element()
    )


def _cut_jpeg(data, begin, size):
    window = tf.concat((begin, size), 0)
    return tf.image.decode_and_crop_jpeg(data, window, channels=3, dct_method=DCT)


def _box_of(box, size, seed):
    begin, extent = box.sample(tf.concat((size, (3,)), 0), seed)
    return begin[:2], extent[:2]
