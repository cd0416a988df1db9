# SPDX-License-Identifier: Apache-2.0
"""TFRecord files of tf.Examples as a data source: indexed once, then each record is read by its location.

An index instead of a stream makes every epoch a uniform permutation of all images, whatever their order in
the files, and lets a stopped run resume at its exact position.
"""

from __future__ import annotations

import glob
import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.data.sources.split_names import split_of_file
from inception_tf.data.sources.splits import ALL, Records, Source, Split, hold_out
from inception_tf.errors import UserError

__all__ = ["index_records", "open_tfrecords", "read_records"]

# (image, label): slim's and the Model Garden's names, then those of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
TEXT = "image/class/text"
NOT_RECORDS = (".csv", ".json", ".md", ".txt")  # files beside the records
LABEL_FILES = ("labels.txt", "labels.json", "label.labels.txt")
HEADER, FOOTER = 12, 4  # bytes around a record: its length and a checksum, a checksum


def open_tfrecords(name: str, pattern: str, label_offset: int, key: str | None = None) -> Source:
    """Open TFRecord files, assigned to splits by their names; without such names a tenth is held out.

    Class names are read from a `labels.txt` or `labels.json` beside the files, or else from the records.

    Args:
        name: str. The name of the source.
        pattern: str. A glob of the files.
        label_offset: int. Subtracted from the labels.
        key: str. `image=KEY,label=KEY` or one of them; None: slim's or TFDS'.

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
    classes = labels - label_offset
    low = int(labels.min())
    if low < label_offset:
        raise UserError(
            f"{name} has label {low}, below the label offset {label_offset}; use {low} or less"
        )
    names, named = _names(Path(files[0]).parent, classes, texts, label_offset)
    whole = Split(records, classes)
    groups = np.array([split_of_file(Path(file).name) or ALL for file in files])[
        records.locations[:, 0]
    ]
    if ALL in groups:
        splits = hold_out(whole)
    else:
        parts = [p for p in ("train", "validation", "test") if p in groups]
        splits = {part: whole.take(groups == part) for part in parts}
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
    folder: Path, classes: np.ndarray, texts: dict[int, str], offset: int
) -> tuple[tuple[str, ...], bool]:
    """The name of each class, and whether the data names all of them."""
    highest = int(classes.max())
    for file in (folder / name for name in LABEL_FILES):
        if file.is_file():
            names = _read_names(file)
            names = names if len(names) == highest + 1 else names[offset:]
            if len(names) <= highest:
                raise UserError(
                    f"{file} names {len(names)} classes and the records have label {highest + offset}"
                )
            return names, True
    named = all(number + offset in texts for number in range(highest + 1))
    names = tuple(texts.get(number + offset, str(number)) for number in range(highest + 1))
    return names, named


def _read_names(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8")
        names = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the class names in {file}: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file} must be a list of class names")
    # slim writes `0:airplane`.
    return tuple(re.sub(rf"^{number}:", "", name) for number, name in enumerate(names))
