# SPDX-License-Identifier: Apache-2.0
"""A split decoded once: its pixels in memory or in one local file, for sets that are small and runs that are long."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from inception_tf.data.loading import packed, reader
from inception_tf.data.sources.splits import Records, Split
from inception_tf.data.sources.tfrecords import read_records
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path

__all__ = ["MEMORY", "keep"]

MEMORY = "memory"


def keep(split: Split, cache: str | None) -> Split:
    """`split` with its images decoded: `cache` is `memory`, a folder for a file of them, or None for as they are.

    An image takes height x width x 3 bytes, about five times its JPEG.  One that cannot be read is
    kept as it is and skipped by whoever reads it, as without a cache.  A file is written whole,
    under a name that changes with the images, and used again by later runs.
    """
    if cache is None or split.decoded:
        return split
    if cache == MEMORY:
        contents = np.array(list(_contents(split)), object)
        return Split(contents, split.classes, origin=split)
    file = Path(cache).expanduser() / f"{_identity(split)}.tfrecord"
    if not file.is_file():
        _write(split, file)
    places = [(0, n, offset, len(data)) for n, (offset, data) in enumerate(read_records(str(file)))]
    records = Records((str(file),), np.array(places, np.int64), image_key=None)
    return Split(records, split.classes, origin=split)


@tf.autograph.experimental.do_not_convert  # nothing to convert, and it takes seconds
def _contents(split: Split):
    read = reader(split)
    return (
        tf.data.Dataset.range(len(split))
        .map(lambda index: packed(read(index)), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .as_numpy_iterator()
    )


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


def _identity(split: Split) -> str:
    """A name that two splits share only if their files are the same, unchanged, in the same order."""
    digest = hashlib.sha256()
    records = isinstance(split.images, Records)
    for path in split.images.files if records else split.images:
        stat = os.stat(path)
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    if records:
        digest.update(np.ascontiguousarray(split.images.places).tobytes())
    return digest.hexdigest()[:32]
