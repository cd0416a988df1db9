# SPDX-License-Identifier: Apache-2.0
"""Where images come from, by name: one description of all four kinds of data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from inception_tf.data.sources.splits import SPLIT_SEED, Source, Split
from inception_tf.errors import UserError, missing_package, unknown

__all__ = ["KINDS", "Source", "Split", "absolute", "open_source"]

KINDS = ("digits", "tfds:NAME[/VERSION]", "folder:PATH", "tfrecord:GLOB")
DIGITS_TEST = 360  # images, of 1,797


def open_source(name: str, *, label_offset: int = 0) -> Source:
    """The data called `name`, one of `KINDS`; nothing is decoded yet.

    label_offset: what is subtracted from the labels of TFRecord files, 1 where class 0 is a
    background that no image has, as in slim's ImageNet.  Raises `UserError` where there is no such
    data, with what is allowed.
    """
    kind, _, rest = name.partition(":")
    if label_offset and kind != "tfrecord":
        raise UserError(f"a label offset is for tfrecord: data; {name} counts its classes from 0")
    if name == "digits":
        return _digits()
    if kind == "folder" and rest:
        from inception_tf.data.sources.folders import open_folder

        return open_folder(name, Path(rest).expanduser())
    if kind == "tfrecord" and rest:
        from inception_tf.data.sources.tfrecords import open_records

        return open_records(name, os.path.expanduser(rest), label_offset)
    if kind == "tfds" and rest:
        from inception_tf.data.sources.tfds import open_tfds

        return open_tfds(name, rest)
    if not rest and Path(name).is_dir():
        raise UserError(f"unknown data '{name}'; a folder is given as folder:{name}")
    raise unknown("data", name, KINDS)


def absolute(name: str) -> str:
    """`name` with its path made absolute, so that a run folder finds its data from anywhere."""
    kind, colon, rest = name.partition(":")
    if kind in ("folder", "tfrecord") and rest:
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
