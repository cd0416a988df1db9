# SPDX-License-Identifier: Apache-2.0
"""Numbered version folders, as TensorFlow Serving looks for them under a model's folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import remove_unfinished, temporary_folder

__all__ = [
    "GRAPH_FILE",
    "PREPROCESSING_FILE",
    "VERSION_LIMIT",
    "atomic_version",
    "check_version_free",
    "find_runtime_folder",
    "keep_notes",
    "newest_version",
    "publish_version",
    "list_versions",
]

GRAPH_FILE = "saved_model.pb"
PREPROCESSING_FILE = "preprocessing.json"  # that only networks for other runtimes have
VERSION_LIMIT = 2**63  # TensorFlow Serving reads versions as int64


def list_versions(folder: Path) -> dict[int, Path]:
    """Lists what TensorFlow Serving would take for versions: children whose name is a number.

    Args:
        folder: The folder of a model.

    Returns:
        Version numbers to paths.
    """
    names = (path for path in folder.iterdir() if path.name.isascii() and path.name.isdecimal())
    return {int(path.name): path for path in names}


def newest_version(path: str | Path) -> Path:
    """Finds the folder of one SavedModel.

    Args:
        path: A version folder, or the folder above it, of which the highest number is taken.

    Returns:
        The version folder.

    Raises:
        UserError: `path` is no folder, has no version, or the version is no SavedModel.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"'{path}' is not a folder; give saved_models/NAME or saved_models/NAME/VERSION"
        )
    if (path / GRAPH_FILE).is_file():
        return path
    numbered = list_versions(path)
    if not numbered:
        raise UserError(
            f"'{path}' has neither a {GRAPH_FILE} nor a numbered version folder;"
            f" make one with: inception-tf export RUN --to {path}"
        )
    newest = numbered[max(numbered)]
    if not (newest / GRAPH_FILE).is_file():
        raise UserError(f"'{newest}' is not a SavedModel, it has no {GRAPH_FILE}; export it again")
    return newest


def find_runtime_folder(path: Path) -> Path | None:
    """Finds the newest network that was exported for another runtime.

    Args:
        path: A version folder or the folder above it.

    Returns:
        The version folder; None where `path` has no such network.
    """
    if (path / PREPROCESSING_FILE).is_file():
        return path
    numbered = list_versions(path) if path.is_dir() else {}
    newest = numbered[max(numbered)] if numbered else path
    return newest if (newest / PREPROCESSING_FILE).is_file() else None


def check_version_free(to: Path, version: int | None) -> None:
    """Checks that a version can be written.

    Args:
        to: The folder of the versions, which may not exist yet.
        version: The number; None for the next one.

    Raises:
        UserError: `to` is a file, has this version already, or the number is out of range.
    """
    is_number = isinstance(version, int) and not isinstance(version, bool)
    if version is not None and not (is_number and 0 < version < VERSION_LIMIT):
        raise UserError(f"version must be an integer of at least 1, got {version!r}")
    if to.exists() and not to.is_dir():
        raise UserError(f"'{to}' is a file; give the folder that holds the versions")
    if version is not None and to.exists() and version in list_versions(to):
        raise _taken(to, version)


@contextlib.contextmanager
def atomic_version(to: Path) -> Iterator[Path]:
    """Makes a temporary folder in which a version is built, and removes those that killed exports left.

    Args:
        to: The folder of the versions; removed at the end where it was created here and is empty.

    Yields:
        The temporary folder; removed at the end.
    """
    is_new = not to.exists()
    to.mkdir(parents=True, exist_ok=True)
    remove_unfinished(to)
    # Not a number, so that a server that watches `to` does not load it; in `to`, so that one rename moves it.
    building = temporary_folder(to, "export")
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # it holds a version
                to.rmdir()


def publish_version(built: Path, to: Path, version: int | None) -> Path:
    """Renames a finished folder to its version number.

    Args:
        built: The folder, in `to`'s file system.
        to: The folder of the versions.
        version: The number; None for the highest plus 1, or the next free one where another export was faster.

    Returns:
        The version folder.

    Raises:
        UserError: The version exists.
    """
    number = version or _next(to)
    while True:
        target = to / str(number)
        try:
            os.rename(built, target)
            return target
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise _taken(to, version) from error
            number += 1


def keep_notes(notes: Path, to: Path) -> None:
    """Moves files for people and servers beside the versions, where a user may edit them.

    Args:
        notes: The folder with the files, in `to`'s file system.
        to: The folder of the versions; what is there already stays.
    """
    for note in notes.iterdir():
        if not (to / note.name).exists():
            note.replace(to / note.name)


def _next(to: Path) -> int:
    return max(list_versions(to), default=0) + 1


def _taken(to: Path, version: int) -> UserError:
    return UserError(
        f"version {version} is in '{to}' already; drop the version to get the next, {_next(to)}"
    )
