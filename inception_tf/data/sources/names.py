# SPDX-License-Identifier: Apache-2.0
"""Names of data sources, checked without opening them and without any package."""

from __future__ import annotations

import glob
import os

from inception_tf.errors import UserError, printable, unknown

__all__ = [
    "KINDS",
    "check_source_name",
    "no_folder",
    "no_records",
    "unknown_source",
]

KINDS = ("digits", "tfds:NAME[/VERSION]", "folder:PATH", "tfrecord:GLOB", "csv:FILE")
PREFIXES = {name.partition(":")[0] for name in KINDS if ":" in name}


def check_source_name(name: str) -> None:
    """Checks that a name is one of data, and that something is where its path points.

    Args:
        name: One of `KINDS`.

    Raises:
        UserError: There is no such kind of data, or nothing at the path.
    """
    kind, _, rest = name.partition(":")
    if name != "digits" and not (kind in PREFIXES and rest):
        raise unknown_source(name)
    path = os.path.expanduser(rest)
    there = os.path.lexists(path)
    if kind == "folder" and (not there or os.path.isfile(path)):
        raise no_folder(printable(path), is_file=there)
    if kind == "csv" and not there:
        raise UserError(f"{printable(path)} is missing")
    if kind == "tfrecord" and not there and not glob.glob(path):
        raise no_records(path)


def unknown_source(name: str) -> UserError:
    """The error of a name that is none of data.

    Args:
        name: The name.

    Returns:
        The error, to be raised.
    """
    if os.path.isdir(name):
        return UserError(f"unknown data '{name}'; a folder is given as folder:{name}")
    return unknown("data", name, KINDS)


def no_folder(path: str, *, is_file: bool) -> UserError:
    """The error of `folder:` where no folder is.

    Args:
        path: What was named, as it is shown.
        is_file: A file is there, and not nothing.

    Returns:
        The error, to be raised.
    """
    what = f"{path} is a file" if is_file else f"there is no folder {path}"
    return UserError(f"{what}; give folder:PATH with one folder per class")


def no_records(pattern: str, beside: str = "") -> UserError:
    """The error of `tfrecord:` where no file is.

    Args:
        pattern: The pattern, or the path of a file.
        beside: What matches it and holds no records.

    Returns:
        The error, to be raised.
    """
    return UserError(f"no file matches {pattern}{beside}; give tfrecord:GLOB, in quotes")
