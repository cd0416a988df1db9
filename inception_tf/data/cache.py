# SPDX-License-Identifier: Apache-2.0
"""A cache of decoded images, in memory or in one local file, for small data sets and long runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from inception_tf.data.fingerprint import fingerprint_split
from inception_tf.data.loading import encoded_reader, serialize_pixels
from inception_tf.data.sources.record_files import Record, read_records
from inception_tf.data.sources.splits import Records, Split
from inception_tf.data.tuning import untuned
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path

__all__ = ["MEMORY", "cache_decoded"]

MEMORY = "memory"
PIXELS = 2  # of the decoders: counted up when an image gets other pixels


def cache_decoded(split: Split, cache: str | None) -> Split:
    """Decode all images of a split once.

    An image needs height x width x 3 bytes, about five times its JPEG.  An image that cannot be read stays
    encoded, and is skipped when it is read, as without a cache.  A file is written atomically, under a name
    that depends on the images, and later runs reuse it.

    Args:
        split: The split.
        cache: "memory", a folder for the file, or None for no cache.

    Returns:
        A split with equal images and classes.

    Raises:
        UserError: The file cannot be written.
    """
    if cache is None or split.decoded:
        return split
    if cache == MEMORY:
        return _cached(split, np.array(list(_contents(split)), object))
    known = fingerprint_split(split)
    name = hashlib.sha256(f"{known.names}{known.contents}{PIXELS}{split.bits}".encode()).hexdigest()
    file = Path(cache).expanduser() / f"{name[:32]}.tfrecord"
    if not file.is_file():
        _write(split, file)
    locations = [
        (0, number, record.offset, record.length)
        for number, record in enumerate(read_records(str(file), contents=False))
        if isinstance(record, Record)
    ]
    if len(locations) != len(split):
        raise UserError(f"the cache of decoded images {file} is damaged; remove it")
    records = Records((str(file),), np.array(locations, np.int64), image_key=None)
    return _cached(split, records)


def _cached(split: Split, images: np.ndarray | Records) -> Split:
    return Split(images, split.classes, origin=split, damaged=split.damaged, targets=split.targets)


@tf.autograph.experimental.do_not_convert  # nothing to convert, and it would take seconds
def _contents(split: Split) -> Iterator[bytes]:
    read = encoded_reader(split)
    contents = tf.data.Dataset.range(len(split)).map(
        lambda index: serialize_pixels(read(index), split.bits),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return untuned(contents.prefetch(tf.data.AUTOTUNE)).as_numpy_iterator()


def _write(split: Split, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for data in _contents(split):
                writer.write(data)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"cannot write the cache of decoded images {file}: {getattr(error, 'strerror', error)}"
        ) from error
