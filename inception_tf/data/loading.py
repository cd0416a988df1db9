# SPDX-License-Identifier: Apache-2.0
"""Loading one image of a split by its index, as TensorFlow operations: read, check, decode."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from inception_tf.data.decoding import images
from inception_tf.data.sources.splits import Records, Split

__all__ = [
    "encoded_reader",
    "image_loader",
    "record_reader",
    "safe_loader",
    "sequence_reader",
    "serialize_pixels",
    "stored_reader",
]

RECORD = {"output_types": [tf.string], "output_shapes": [()]}  # an element of a data set of records
SERIALIZED_MAGIC = b"\x08\x04\x12"  # start of a serialized uint8 tensor, and of no image


def image_loader(
    split: Split,
    finish: Callable,
    crop: images.RandomCrop | None = None,
    read: Callable | None = None,
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function that loads an image by its index; its operations fail if the image is damaged.

    Args:
        split: The split.
        finish: Callable from (H, W, 3) uint8 to pixels of one fixed shape.
        crop: A random crop, drawn before decoding, so that only its pixels are decoded.
        read: Reads an image, encoded, by what takes the place of the index; None: by the index.

    Returns:
        A function of the index, () int64, and a seed, (2,) int, that returns the pixels and the status, ()
        string; pixels are zeros if the status is not `ok`.
    """
    blank = _blank(finish)
    if split.decoded:
        pixels = tf.constant(split.images)

        def from_pixels(index, seed):
            image = pixels[index]
            return finish(crop(image, seed) if crop else image), tf.constant(images.OK)

        return from_pixels

    read = read or encoded_reader(split)

    def from_cached(index, seed):
        data = read(index)

        def pixels():
            image = _deserialize_pixels(data)
            return finish(crop(image, seed) if crop else image), tf.constant(images.OK)

        return tf.cond(_is_serialized(data), pixels, lambda: from_encoded(data, seed))

    def from_encoded(data, seed):
        status, image = tf.cond(
            images.is_plain_jpeg(data),
            lambda: (tf.constant(images.OK), images.decode_plain_jpeg(data, crop, seed)),
            lambda: images.read_image(data, crop, seed, bits=split.bits),
        )
        image.set_shape((None, None, 3))

        def pixels():
            return tf.ensure_shape(finish(image), blank.shape)

        return tf.cond(tf.equal(status, images.OK), pixels, lambda: blank), status

    def from_file(index, seed):
        return from_encoded(read(index), seed)

    return from_cached if split.origin else from_file


def safe_loader(load: Callable, split: Split, finish: Callable) -> Callable:
    """A loader that returns zeros and a status for a damaged image; it takes a third of a millisecond longer.

    Args:
        load: What `image_loader` returned.
        split: The split.
        finish: The `finish` of that loader.

    Returns:
        A function of the same arguments and results that does not fail.
    """
    if split.decoded:
        return load
    otherwise = (_blank(finish), images.DAMAGED)
    return lambda index, seed: images.with_fallback(load, (index, seed), otherwise)


def _blank(finish: Callable) -> tf.Tensor:
    spec = _result_spec(finish)
    return tf.zeros(spec.shape, spec.dtype)


@functools.lru_cache(maxsize=8)  # the loaders of a pipeline share a `finish`
def _result_spec(finish: Callable) -> tf.TensorSpec:
    function = tf.function(finish, autograph=False)
    return function.get_concrete_function(
        tf.TensorSpec((None, None, 3), tf.uint8)
    ).structured_outputs


def _records_from(file: tf.Tensor, offset: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The records of a file from an offset on, through a buffer for `length` bytes."""
    # The public TFRecordDataset reads from the start of a file; the operation below it takes an offset.
    return tf.raw_ops.TFRecordDatasetV2(
        filenames=file[tf.newaxis],
        compression_type="",
        buffer_size=length + 16,
        byte_offsets=offset[tf.newaxis],
    )


def record_reader(records: Records) -> Callable:
    """A function that reads a record by its index; its operations fail if the checksum is wrong.

    Args:
        records: Locations of the records.

    Returns:
        A function from an index, () int64, to the record, () string.
    """
    files = tf.constant([os.fsencode(file) for file in records.files])
    locations = tf.constant(records.locations)

    def read(index):
        file, _, offset, length = tf.unstack(locations[index])
        dataset = _records_from(files[file], offset, length)
        first = tf.raw_ops.TakeDataset(input_dataset=dataset, count=1, **RECORD)
        return tf.raw_ops.DatasetToSingleElement(dataset=first, **RECORD)[0]

    return read


def sequence_reader(records: Records) -> Callable:
    """A function that reads neighboring records of one file in one pass.

    Args:
        records: Locations of the records.

    Returns:
        A function from indices, (n,) int64 in the order of the file, to the records, (n,) string; empty strings
        if one of the records between the first and the last is damaged.
    """
    files = tf.constant([os.fsencode(file) for file in records.files])
    locations = tf.constant(records.locations)

    def read(indices):
        places = tf.gather(locations, indices)
        file, start, offset, _ = tf.unstack(places[0])
        numbers = places[:, 1] - start
        # A buffer of the length of the sequence: it is read at once.
        length = places[-1, 2] + places[-1, 3] - offset
        dataset = _records_from(files[file], offset, length)
        count = numbers[-1] + 1
        found = tf.raw_ops.TakeDataset(input_dataset=dataset, count=count, **RECORD)
        kind = {"output_types": [tf.string], "output_shapes": [(None,)]}
        found = tf.raw_ops.BatchDatasetV2(
            input_dataset=found, batch_size=count, drop_remainder=False, **kind
        )
        return tf.gather(tf.raw_ops.DatasetToSingleElement(dataset=found, **kind)[0], numbers)

    def read_safely(indices):
        return images.with_fallback(read, indices, tf.fill(tf.shape(indices), ""))

    return read_safely


def stored_reader(split: Split) -> Callable:
    """A function that takes the encoded image out of a record.

    Args:
        split: The split, of records.

    Returns:
        A function from a record, () string, to what `encoded_reader` reads.
    """
    key = split.images.image_key if isinstance(split.images, Records) else None
    if key is None:
        return lambda record: record
    feature = {key: tf.io.FixedLenFeature((), tf.string)}
    return lambda record: tf.io.parse_single_example(record, feature)[key]


def encoded_reader(split: Split) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that reads an image as it is stored.

    Args:
        split: The split.

    Returns:
        A function from an index, () int64, to () string: an encoded image, or what `serialize_pixels` returns.
    """
    if isinstance(split.images, Records):
        record, image = record_reader(split.images), stored_reader(split)
        return lambda index: image(record(index))
    if split.images.dtype == object:
        contents = tf.constant(split.images)
        return lambda index: contents[index]
    # Names are bytes to the file system; those that are not UTF-8 have lone surrogates in Python.
    paths = tf.constant(np.char.encode(split.images, "utf-8", "surrogateescape"))
    return lambda index: tf.io.read_file(paths[index])


def serialize_pixels(data: tf.Tensor, bits: int = 16) -> tf.Tensor:
    """Decode an image and serialize its pixels without compression.

    Args:
        data: () string, an encoded image.
        bits: int. As for `images.decode`.

    Returns:
        () string; `data` itself if the image cannot be read.
    """

    def read(data):
        status, image = images.read_image(data, bits=bits)
        return tf.cond(
            tf.equal(status, images.OK), lambda: tf.io.serialize_tensor(image), lambda: data
        )

    return images.with_fallback(read, data, data)


def _is_serialized(data: tf.Tensor) -> tf.Tensor:
    return images.starts_with(data, SERIALIZED_MAGIC)


def _deserialize_pixels(data: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.io.parse_tensor(data, tf.uint8), (None, None, 3))
