# SPDX-License-Identifier: Apache-2.0
"""Class folders as a data source: one folder per class, or `train/`, `validation/`, `test/` with class folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from inception_tf.data.sources.splits import Source, Split, hold_out
from inception_tf.errors import UserError

__all__ = ["open_folder"]

SPLITS: tuple[str, ...] = ("train", "validation", "test")
EXTENSIONS = (".jpg", ".jpeg", ".png")


def open_folder(name: str, root: Path) -> Source:
    """Open class folders; without a validation or test folder, a tenth of each class is held out.

    Args:
        name: str. The name of the source.
        root: The folder.

    Returns:
        The source.

    Raises:
        UserError: The folder is missing, or lacks classes or images.
    """
    folders = _subfolders(root)
    named = [part for part in SPLITS if part in folders]
    if "train" in named:
        labels = _class_names(root / "train")
        splits = {part: _read_split(root / part, labels) for part in named}
        if len(splits) == 1:
            splits = hold_out(splits["train"])
    else:
        labels = _class_names(root)
        splits = hold_out(_read_split(root, labels))
    return Source(name, labels, splits)


def _subfolders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError as error:
        raise UserError(
            f"there is no folder {root}; give folder:PATH with one folder per class"
        ) from error
    except NotADirectoryError as error:
        raise UserError(f"{root} is a file; give folder:PATH with one folder per class") from error
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
        raise UserError(f"{root} has class folders that train/ lacks: {', '.join(sorted(extra))}")
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
            f"{root} has no images; class folders must have files that end in {', '.join(EXTENSIONS)}"
        )
    return Split(np.array(paths), np.array(classes, np.int64))
