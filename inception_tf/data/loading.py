# SPDX-License-Identifier: Apache-2.0
"""The content of one image of a split by its index, as TensorFlow operations: read, check, decode, give up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from inception_tf.data.decoding import images
from inception_tf.data.sources.splits import Records, Split

__all__ = ["loader", "packed", "reader", "record_reader", "safe_loader"]

KEPT_MAGIC = b"\x08\x04\x12"  # a serialized tensor of uint8 with a shape; no JPEG or PNG starts so


def loader(split: Split, finish: Callable, box=None) -> Callable:
    """A function (index () int64, seed (2,) int) → (pixels, status); it fails where an image is damaged.

    finish: (H, W, 3) uint8 → pixels of one fixed shape; zeros where the status is not `ok`.  box: a
    distortion that is drawn, from the seed, before decoding, so that only its pixels are decoded.
    """
    blank = _blank(finish)
    if split.decoded:
        pixels = tf.constant(split.images)

        def from_pixels(index, seed):
            image = pixels[index]
            return finish(box(image, seed) if box else image), tf.constant(images.OK)

        return from_pixels

    read = reader(split)

    def from_kept(index, seed):
        data = read(index)

        def pixels():
            image = unpacked(data)
            return finish(box(image, seed) if box else image), tf.constant(images.OK)

        return tf.cond(is_kept(data), pixels, lambda: from_encoded(data, seed))

    def from_encoded(data, seed):
        return tf.cond(
            images.is_ordinary(data),
            lambda: (finish(images.decode_ordinary(data, box, seed)), tf.constant(images.OK)),
            lambda: from_any(data, seed),
        )

    # Called from several places, traced once.
    @partial(tf.function, autograph=False)
    def from_any(data, seed):
        status = images.check(data)

        def pixels():
            image = images.decode_box(data, box, seed) if box else images.decode(data)
            return tf.ensure_shape(finish(image), blank.shape)

        return tf.cond(tf.equal(status, images.OK), pixels, lambda: blank), status

    def from_file(index, seed):
        return from_encoded(read(index), seed)

    return from_kept if split.origin else from_file


def safe_loader(load: Callable, split: Split, finish: Callable) -> Callable:
    """As `load` of `loader`, and a damaged image is zeros and a status; it takes a third of a millisecond more."""
    if split.decoded:
        return load
    otherwise = (_blank(finish), images.DAMAGED)
    return lambda index, seed: images.attempt(load, (index, seed), otherwise)


def _blank(finish: Callable):
    spec = tf.function(finish, autograph=False).get_concrete_function(
        tf.TensorSpec((None, None, 3), tf.uint8)
    )
    return tf.zeros(spec.structured_outputs.shape, spec.structured_outputs.dtype)


def record_reader(records: Records) -> Callable:
    """A function index () int64 → the record there, () string; fails where its checksum is wrong."""
    files = tf.constant(records.files)
    places = tf.constant(records.places)

    def read(index):
        file, _, offset, length = tf.unstack(places[index])
        # The public TFRecordDataset starts at a file's beginning; the operation under it need not.
        dataset = tf.raw_ops.TFRecordDatasetV2(
            filenames=files[file][tf.newaxis],
            compression_type="",
            buffer_size=length + 16,
            byte_offsets=offset[tf.newaxis],
        )
        kind = {"output_types": [tf.string], "output_shapes": [()]}
        first = tf.raw_ops.TakeDataset(input_dataset=dataset, count=1, **kind)
        return tf.raw_ops.DatasetToSingleElement(dataset=first, **kind)[0]

    return read


def reader(split: Split) -> Callable:
    """A function index () int64 → the image as it is stored, () string: a file's bytes, or `packed`."""
    if isinstance(split.images, Records):
        record, key = record_reader(split.images), split.images.image_key
        if key is None:
            return record
        feature = {key: tf.io.FixedLenFeature((), tf.string)}
        return lambda index: tf.io.parse_single_example(record(index), feature)[key]
    contents = tf.constant(split.images)
    if split.images.dtype == object:
        return lambda index: contents[index]
    return lambda index: tf.io.read_file(contents[index])


def packed(data):
    """An encoded image, () string → its pixels as () string without compression; what cannot be read stays as it is."""

    def read(data):
        status = images.check(data)
        return tf.cond(
            tf.equal(status, images.OK),
            lambda: tf.io.serialize_tensor(images.decode(data)),
            lambda: data,
        )

    return images.attempt(read, data, data)


def is_kept(data):
    """Is this () string what `packed` makes of an image?"""
    return images.starts_with(data, KEPT_MAGIC)


def unpacked(data):
    """What `packed` made → (H, W, 3) uint8."""
    return tf.ensure_shape(tf.io.parse_tensor(data, tf.uint8), (None, None, 3))
