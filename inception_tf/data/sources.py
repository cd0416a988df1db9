# SPDX-License-Identifier: Apache-2.0
"""Where images come from, as one description: splits, classes, label names, number of images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_tf.errors import UserError, missing_package, unknown

__all__ = ["Source", "Split", "open_source"]

EXTENSIONS = (".jpg", ".jpeg", ".png")
SPLIT_SEED = 20150211  # of the permutations behind fixed splits: the same on every machine
HELD_OUT = 0.1  # share of each class that becomes `validation` where a folder has no splits
DIGITS_TEST = 360  # images, of 1,797


@dataclass(frozen=True)
class Split:
    """Images with their classes.

    images: (N,) paths of encoded files, or (N, H, W, 3) uint8.  classes: (N,) int64 from 0.
    """

    images: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Source:
    """A named set of images; every later step reads what it needs to know from here."""

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, Split]

    def split(self, name: str | None = None) -> Split:
        """The split of that name; without one, `validation`, or `test` where there is no validation."""
        if name is None:
            name = "validation" if "validation" in self.splits else "test"
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, self.splits)
        if not len(self.splits[name]):
            raise UserError(
                f"split '{name}' of {self.name} is empty; put images into its class folders"
            )
        return self.splits[name]


def open_source(name: str) -> Source:
    """`digits`, or `folder:PATH`: class folders, or `train/`, `validation/`, `test/` with class folders."""
    kind, colon, rest = name.partition(":")
    if kind == "digits" and not colon:
        return _digits()
    if kind == "folder" and rest:
        return _folder(name, Path(rest).expanduser())
    if not colon and Path(name).is_dir():
        raise UserError(f"unknown data '{name}'; a folder is given as folder:{name}")
    raise unknown("data", name, ("digits", "folder:PATH"))


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
    splits = {
        "train": Split(images[order[DIGITS_TEST:]], classes[order[DIGITS_TEST:]]),
        "test": Split(images[order[:DIGITS_TEST]], classes[order[:DIGITS_TEST]]),
    }
    return Source("digits", tuple(str(digit) for digit in range(10)), splits)


def _folder(name: str, root: Path) -> Source:
    folders = _subfolders(root)
    named = [part for part in ("train", "validation", "test") if part in folders]
    if "train" in named:
        labels = _class_names(root / "train")
        splits = {part: _read_split(root / part, labels) for part in named}
        if len(splits) == 1:
            splits = _hold_out(splits["train"])
    else:
        labels = _class_names(root)
        splits = _hold_out(_read_split(root, labels))
    return Source(name, labels, splits)


def _subfolders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError as error:
        raise UserError(
            f"there is no folder {root}; give folder:PATH with one folder a class"
        ) from error
    except NotADirectoryError as error:
        raise UserError(f"{root} is a file; give folder:PATH with one folder a class") from error
    except OSError as error:
        raise UserError(f"cannot read folder {root}: {error.strerror}") from error


def _class_names(root: Path) -> tuple[str, ...]:
    names = tuple(_subfolders(root))
    if len(names) < 2:
        found = f"only '{names[0]}'" if names else "none"
        raise UserError(f"{root} needs at least two class folders, found {found}")
    return names


def _read_split(root: Path, labels: tuple[str, ...]) -> Split:
    extra = set(_subfolders(root)) - set(labels)
    if extra:
        raise UserError(f"{root} has class folders that train/ has not: {', '.join(sorted(extra))}")
    paths, classes = [], []
    for index, label in enumerate(labels):
        folder = root / label
        files = sorted(os.listdir(folder)) if folder.is_dir() else []
        for file in files:
            if file.lower().endswith(EXTENSIONS):
                paths.append(str(folder / file))
                classes.append(index)
    if not paths:
        raise UserError(
            f"{root} has no images; class folders hold files that end in {', '.join(EXTENSIONS)}"
        )
    return Split(np.array(paths), np.array(classes, np.int64))


def _hold_out(split: Split) -> dict[str, Split]:
    """Every class loses the same share to `validation`, at least one image where it has two."""
    order = np.random.RandomState(SPLIT_SEED).permutation(len(split))
    held = np.zeros(len(split), bool)
    for index in np.unique(split.classes):
        members = order[split.classes[order] == index]
        held[members[: max(len(members) > 1, round(len(members) * HELD_OUT))]] = True
    return {
        "train": Split(split.images[~held], split.classes[~held]),
        "validation": Split(split.images[held], split.classes[held]),
    }
