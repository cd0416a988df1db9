# SPDX-License-Identifier: Apache-2.0
"""Whether a file is read as an image, by its name and its status: nothing is opened."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from inception_tf.data.formats import ending_of, is_image_name
from inception_tf.errors import printable

__all__ = ["FileCheck", "check_file"]

# Why a file is not read.
BROKEN_LINK = "links to missing files"
EMPTY = "empty files"
LINK_LOOP = "links that lead back to themselves"
LINK_TO_FOLDER = "links to folders"
MISSING = "missing"
NO_ENDING = "no ending"
NOT_REGULAR = "no regular files: pipes, sockets, devices"
UNREADABLE = "unreadable: permission denied"


@dataclass(frozen=True)
class FileCheck:
    """What is known of a file without opening it."""

    reason: str | None  # why it is not read; None: it is
    size: int = 0  # bytes


def check_file(entry: os.DirEntry[str] | str) -> FileCheck:
    """Find out whether a file is one to read as an image; the file system is asked once at most.

    A link counts as the file that it leads to.

    Args:
        entry: An entry of `os.scandir`, or a path.

    Returns:
        The reason why it is not read, or its size.
    """
    path = entry if isinstance(entry, str) else entry.path
    is_link = os.path.islink(path) if isinstance(entry, str) else entry.is_symlink()
    # Of a link it is said first where it leads, whatever its name.
    if not is_link and not is_image_name(path):
        ending = ending_of(path)
        return FileCheck(f"other ending: {printable(ending)}" if ending else NO_ENDING)
    try:
        found = os.stat(path) if isinstance(entry, str) else entry.stat()
    except OSError as error:
        return FileCheck(_unreachable(error, is_link=is_link))
    if stat.S_ISDIR(found.st_mode):
        return FileCheck(LINK_TO_FOLDER)
    if not is_image_name(path):
        return FileCheck(f"other ending: {printable(ending_of(path))}")
    if not stat.S_ISREG(found.st_mode):
        return FileCheck(NOT_REGULAR)
    if not found.st_size:
        return FileCheck(EMPTY)
    # Everyone may read nearly all files, which needs no further question to the file system.
    if not found.st_mode & stat.S_IROTH and not os.access(path, os.R_OK):
        return FileCheck(UNREADABLE)
    return FileCheck(None, found.st_size)


def _unreachable(error: OSError, *, is_link: bool) -> str:
    if isinstance(error, FileNotFoundError):
        return BROKEN_LINK if is_link else MISSING
    if error.errno == errno.ELOOP:
        return LINK_LOOP
    return UNREADABLE if isinstance(error, PermissionError) else f"unreadable: {error.strerror}"
