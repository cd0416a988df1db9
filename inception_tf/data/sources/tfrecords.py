# SPDX-License-Identifier: Apache-2.0
"""TFRecord files of tf.Examples as a data source: indexed once, then each record is read by its location.

An index instead of a stream makes every epoch a uniform permutation of all images, whatever their order in
the files, and lets a stopped run resume at its exact position.
"""

from __future__ import annotations

import glob
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.data.labels import names_by_class, read_class_names
from inception_tf.data.sources.split_names import assign_splits
from inception_tf.data.sources.splits import Records, Source, Split, hold_out
from inception_tf.errors import UserError

__all__ = ["index_records", "open_tfrecords", "read_records"]

# (image, label): slim's and the Model Garden's names, then those of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
TEXT = "image/class/text"
NOT_RECORDS = (".csv", ".json", ".md", ".txt")  # files beside the records
LABEL_FILES = ("labels.txt", "labels.json", "label.labels.txt")
HEADER, FOOTER = 12, 4  # bytes around a record: its length and a checksum, a checksum


def open_tfrecords(
    name: str,
    pattern: str,
    label_offset: int | None = None,
    key: str | None = None,
    labels_file: str | None = None,
    split_names: str | None = None,
) -> Source:
    """Open TFRecord files, assigned to splits by their names; without such names a tenth is held out.

    Class names are read from a `labels.txt` or `labels.json` beside the files, or else from the records.

    Args:
        name: str. The name of the source.
        pattern: str. A glob of the files.
        label_offset: int. Subtracted from the labels; None: 0, or what the class names leave as the only choice.
        key: str. `image=KEY,label=KEY` or one of them; None: slim's or TFDS'.
        labels_file: str. The class names; None: those beside the files or in the records.
        split_names: str. Which files are which split, by name or pattern; None: by words in their names.

    Returns:
        The source.

    Raises:
        UserError: No file matches, or one is damaged or without images and labels.
    """
    files = tuple(
        file
        for file in sorted(glob.glob(pattern))
        if not file.endswith(NOT_RECORDS) and os.path.isfile(file)
    )
    if not files:
        raise UserError(f"no file matches {pattern}; give tfrecord:GLOB, in quotes")
    image_key, label_key = _keys(files[0], parse_keys(key))
    records, labels, texts = index_records(files, image_key, label_key)
    low, high = int(labels.min()), int(labels.max())
    names, named, label_offset = _names(files[0], labels_file, low, high, texts, label_offset)
    if low < label_offset:
        raise UserError(
            f"{name} has label {low}, below the label offset {label_offset}; use {low} or less"
        )
    whole = Split(records, labels - label_offset)
    assigned = assign_splits(
        dict.fromkeys(Path(file).name for file in files),
        name,
        chosen=split_names,
        kind="files",
        by_word=True,
    )
    splits = {}
    for split, parts in assigned.items():
        chosen = [number for number, file in enumerate(files) if Path(file).name in parts]
        splits[split] = whole.take(np.isin(records.locations[:, 0], chosen))
    if not splits:
        splits = hold_out(whole)
    return Source(name, names, splits, named)


def index_records(
    files: tuple[str, ...], image_key: str, label_key: str
) -> tuple[Records, np.ndarray, dict[int, str]]:
    """Read all records once for their locations and labels.

    Args:
        files: Paths.
        image_key: str. The feature with the encoded image.
        label_key: str. The feature with the label.

    Returns:
        The locations, the labels as stored, (N,) int64, and label → name, as far as records name them.

    Raises:
        UserError: A file is damaged or empty, or a record has no single label.
    """
    locations: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    texts: dict[int, str] = {}
    for number, file in enumerate(files):
        for count, (offset, data) in enumerate(read_records(file)):
            feature = _features(data, f"{file} record {count}")
            label: Sequence[int] = ()
            if label_key in feature:
                label = feature[label_key].int64_list.value
            if len(label) != 1:
                raise UserError(f"{file} record {count} has no single integer '{label_key}'")
            locations.append((number, count, offset, len(data)))
            labels.append(label[0])
            if TEXT in feature and label[0] not in texts:
                texts[label[0]] = b"".join(feature[TEXT].bytes_list.value).decode(errors="replace")
    if not locations:
        raise UserError(f"{', '.join(files)}: no record in it")
    return (
        Records(files, np.array(locations, np.int64), image_key),
        np.array(labels, np.int64),
        texts,
    )


def parse_keys(text: str | None) -> dict[str, str]:
    """Parse the names of features.

    Args:
        text: str. `image=KEY,label=KEY` or one of them; None: nothing.

    Returns:
        `image` and `label` → feature, as far as they are named.

    Raises:
        UserError: It has another form.
    """
    parts = re.split(r",(?=(?:image|label)=)", text) if text else []
    pairs = [part.partition("=") for part in parts]
    keys = {name: feature for name, _, feature in pairs}
    if not all(keys.values()) or not keys.keys() <= {"image", "label"} or len(keys) < len(pairs):
        raise UserError(
            f"--key must be image=KEY,label=KEY or one of them, such as image=jpg,label=cls, got '{text}'"
        )
    return keys


def _keys(file: str, given: dict[str, str]) -> tuple[str, str]:
    for _, data in read_records(file):
        feature = _features(data, f"{file} record 0")
        for image_key, label_key in (
            (given.get("image", image), given.get("label", label)) for image, label in KEYS
        ):
            if image_key in feature and label_key in feature:
                return image_key, label_key
        wanted = " or ".join(f"'{image}' and '{label}'" for image, label in KEYS)
        raise UserError(f"{file} has {', '.join(sorted(feature)) or 'nothing'}, not {wanted}")
    raise UserError(f"{file} is empty")


def read_records(file: str) -> Iterator[tuple[int, bytes]]:
    """Read a TFRecord file without verifying its checksums, which is done when the images are read.

    Args:
        file: str. The path.

    Yields:
        Offset and content of each record.

    Raises:
        UserError: The file cannot be read, is compressed or is truncated.
    """
    try:
        size = os.path.getsize(file)
        with open(file, "rb") as stream:
            offset = 0
            while offset < size:
                header = stream.read(HEADER)
                if offset == 0 and header[:2] == b"\x1f\x8b":
                    raise UserError(f"{file} is compressed; unpack it first, with gunzip")
                length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else size
                if offset + HEADER + length + FOOTER > size:
                    raise UserError(
                        f"{file} is not a TFRecord file, or it is truncated at byte {offset} of {size}"
                    )
                yield offset, stream.read(length)
                stream.seek(FOOTER, os.SEEK_CUR)
                offset += HEADER + length + FOOTER
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


def _features(data: bytes, record: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        raise UserError(f"{record} is not a tf.Example") from error


def _names(
    first: str,
    labels_file: str | None,
    low: int,
    high: int,
    texts: dict[int, str],
    offset: int | None,
) -> tuple[tuple[str, ...], bool, int]:
    """The name of each class, whether the data names all of them, and the label offset."""
    beside = (Path(first).parent / name for name in LABEL_FILES)
    file = Path(labels_file) if labels_file else next((f for f in beside if f.is_file()), None)
    if file:
        names, offset = names_by_class(
            read_class_names(file),
            where=str(file),
            lowest=low,
            highest=high,
            label_offset=offset,
            texts=texts,
        )
        return names, True, offset
    offset = offset or 0
    numbers = range(high - offset + 1)
    named = all(number + offset in texts for number in numbers)
    stated = [texts.get(number + offset, str(number)) for number in numbers]
    # ImageNet has two classes "crane": its records' names alone do not tell them apart.
    repeated = Counter(stated)
    return (
        tuple(f"{n} ({k})" if repeated[n] > 1 else n for k, n in enumerate(stated)),
        named,
        offset,
    )
