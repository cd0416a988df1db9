# SPDX-License-Identifier: Apache-2.0
"""Opening a data source by name."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.data.labels import check_class_names, read_class_names
from inception_tf.data.sources.names import KINDS, unknown_source
from inception_tf.data.sources.source_warnings import class_warnings, file_warnings
from inception_tf.data.sources.splits import SPLIT_SEED, Source, Split
from inception_tf.errors import UserError, missing_package, printable

__all__ = ["KINDS", "Source", "Split", "inspect_source", "open_source", "with_absolute_path"]

SEPARATOR = "|"  # between labels, as pandas' `Series.str.get_dummies` has it
DIGITS_TEST = 360  # images, of 1,797


def open_source(
    name: str,
    *,
    label_offset: int | None = None,
    labels: str | None = None,
    split_names: str | None = None,
    nested: bool = False,
    key: str | None = None,
    bits: int = 16,
    multi_label: bool = False,
    label_separator: str = SEPARATOR,
) -> Source:
    """Open a data source; nothing is decoded yet.

    Args:
        name: str. One of `KINDS`: `digits`, `tfds:NAME`, `folder:PATH`, `csv:FILE` or `tfrecord:GLOB`.
        label_offset: int. Subtracted from the labels of TFRecord files; 1 if class 0 is a background
            without images, as in slim's ImageNet.  None: 0, or what the class names leave as the only choice.
        labels: str. A file with the classes' names in order; None: the data's own.
        split_names: str. `train=A,validation=B`: which folders, files or TFDS splits are which split;
            `none`: no name is one of a split; None: by their names.
        nested: Of folders: images in folders inside class folders are read, too.
        key: str. The features of TFRecord files, `image=KEY,label=KEY`; None: slim's or TFDS'.  Of CSV
            files, the columns, `image=COLUMN,label=COLUMN,split=COLUMN`; None: by their usual names.
        bits: int from 8 to 16. Bits that samples of 16 bits use.
        multi_label: An image shows any number of classes; of `folder:` and `csv:` data.
        label_separator: str. Between the labels in a cell of a multi-label CSV file.

    Returns:
        The source.

    Raises:
        UserError: There is no such data, or it needs a package that is not installed.

    Example:
        >>> len(open_source("digits").split("train"))
        1437
    """
    source = inspect_source(
        name,
        label_offset=label_offset,
        labels=labels,
        split_names=split_names,
        nested=nested,
        key=key,
        bits=bits,
        multi_label=multi_label,
        label_separator=label_separator,
    )
    if source.problem:
        raise UserError(source.problem)
    return source


def inspect_source(name: str, *, bits: int = 16, **reading: Any) -> Source:
    """Open a data source to describe it, also one that `open_source` refuses because of its `problem`.

    Args:
        name: str. One of `KINDS`.
        bits: int from 8 to 16. Bits that samples of 16 bits use.
        **reading: What else `open_source` takes.

    Returns:
        The source.

    Raises:
        UserError: There is no such data, its splits cannot be told, or classes have names that cannot be used.
    """
    source = _open(name, **reading)
    check_class_names(source.labels, source.name)
    splits = {
        split: dataclasses.replace(images, bits=bits) for split, images in source.splits.items()
    }
    return dataclasses.replace(
        source,
        splits=splits,
        warnings=(
            *source.warnings,
            *class_warnings(source.labels, source.splits),
            *file_warnings(source.unread),
        ),
    )


def _open(
    name: str,
    label_offset: int | None = None,
    labels: str | None = None,
    split_names: str | None = None,
    nested: bool = False,
    key: str | None = None,
    multi_label: bool = False,
    label_separator: str = SEPARATOR,
) -> Source:
    kind, _, rest = name.partition(":")
    if not name.isprintable() and printable(name) != name:
        raise UserError(f"{printable(name)} cannot be written as text; rename the folder or file")
    if label_offset and kind not in ("tfrecord", "csv"):
        raise UserError(f"a label offset is for tfrecord: data; {name} counts its classes from 0")
    if key and kind not in ("tfrecord", "csv"):
        raise UserError(
            f"--key names features of tfrecord: data or columns of csv: data; {name} has neither"
        )
    if nested and kind != "folder":
        raise UserError(f"data.nested is for folder: data, not for {name}")
    if multi_label and kind not in ("folder", "csv"):
        raise UserError(
            f"data.multi_label is for folder: data with an image in several class folders, and for csv: data with"
            f" several labels, not for {name}"
        )
    if split_names and name == "digits":
        raise UserError(
            "--split-names is for data with named folders, files or splits, not for digits"
        )
    names = read_class_names(labels) if labels else None
    if name == "digits":
        return _with_names(_digits(), names)
    if kind == "folder" and rest:
        from inception_tf.data.sources.folders import open_folder

        return open_folder(
            name,
            Path(rest).expanduser(),
            labels=names,
            split_names=split_names,
            nested=nested,
            multi_label=multi_label,
        )
    if kind == "csv" and rest:
        from inception_tf.data.sources.csv_files import open_csv

        return open_csv(
            name,
            Path(rest).expanduser(),
            labels=names,
            label_offset=label_offset,
            split_names=split_names,
            key=key,
            separator=label_separator if multi_label else None,
        )
    if kind == "tfrecord" and rest:
        from inception_tf.data.sources.tfrecords import open_tfrecords

        return open_tfrecords(
            name, os.path.expanduser(rest), label_offset, key, labels, split_names
        )
    if kind == "tfds" and rest:
        from inception_tf.data.sources.tfds import open_tfds

        return _with_names(open_tfds(name, rest, split_names=split_names), names)
    raise unknown_source(name)


def _with_names(source: Source, names: tuple[str, ...] | None) -> Source:
    """A source with other names for its classes."""
    if names is None:
        return source
    if len(names) != len(source.labels):
        raise UserError(
            f"--labels gives {len(names)} names, and {source.name} has {len(source.labels)} classes"
        )
    return dataclasses.replace(source, labels=names, named=True)


def with_absolute_path(name: str) -> str:
    """Make the path in a source's name absolute, so that a run folder finds its data from anywhere.

    Args:
        name: str. One of `KINDS`.

    Returns:
        The name; unchanged if it has no path.
    """
    kind, colon, rest = name.partition(":")
    if kind in ("folder", "csv", "tfrecord") and rest:
        return kind + colon + os.path.abspath(os.path.expanduser(rest))
    return name


def _digits() -> Source:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise missing_package("data 'digits'", "scikit-learn", "train") from error
    digits = load_digits()
    gray = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 8x8, counts from 0 to 16
    images = np.repeat(gray[..., None], 3, axis=-1)
    classes = digits.target.astype(np.int64)
    # The set is ordered by writer: a permutation gives both splits all writers.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(classes))
    whole = Split(images, classes)
    splits = {"train": whole.take(order[DIGITS_TEST:]), "test": whole.take(order[:DIGITS_TEST])}
    return Source("digits", tuple(str(digit) for digit in range(10)), splits)
