# SPDX-License-Identifier: Apache-2.0
"""Opening regular files alone, which have their content, with patience for a file system that loses them for a moment; the cache folder."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from inception_tf.errors import UserError

__all__ = [
    "TEXT_LIMIT",
    "cache_folder",
    "check_content",
    "check_new_folder",
    "check_no_pointer",
    "kind_of_file",
    "not_regular",
    "open_regular",
    "read_text",
    "retry_lost",
    "stat_regular",
]

FOLDER = "inception_tf"
# Seconds before each further attempt: a share that restarts, or fails over, is back within them.
RETRY_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 4.0)
# What a share answers while it is away; a missing file is one, where the file was there before.
LOST = (
    errno.ENOENT,
    errno.ESTALE,
    errno.EIO,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.EAGAIN,
)
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
LFS = b"version https://git-lfs.github.com/spec/"
TEXT_LIMIT = 64 * 2**20  # bytes of a text file that is read whole
Result = TypeVar("Result")


def cache_folder() -> Path:
    """The folder of what is kept between runs: downloaded weights, lists of images.

    Returns:
        `inception_tf` under $KERAS_HOME, by default under ~/.keras.
    """
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / FOLDER


def kind_of_file(path: str) -> str | None:
    """What a path leads to, if it is no regular file.

    Args:
        path: The path.

    Returns:
        `a folder`, `a named pipe` or the like; None for a regular file.

    Raises:
        UserError: It is missing or cannot be read.
    """
    try:
        return not_regular(os.stat(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def stat_regular(path: str) -> os.stat_result:
    """The size and the times of a regular file, or of what a link leads to.

    Args:
        path: The file.

    Returns:
        What `os.stat` returns.

    Raises:
        UserError: It is missing, unreadable, or no regular file: a folder, a pipe, a device.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return _checked(path, found)


def open_regular(path: str) -> BufferedReader:
    """Open a file to read its bytes; a pipe, which would block, or an endless device is never read.

    Args:
        path: The file.

    Returns:
        The open file.

    Raises:
        UserError: It is missing, unreadable, or no regular file.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _checked(path, os.fstat(number))
        return open(number, "rb")
    except BaseException:
        os.close(number)
        raise


def check_content(path: str | os.PathLike[str], missing: str = "") -> None:
    """Check that a file is regular, can be read, and is no Git LFS pointer in place of its content.

    Args:
        path: The file.
        missing: The sentence where nothing is there.

    Raises:
        UserError: It is missing, unreadable, no regular file, or a pointer.
    """
    path = os.fspath(path)
    if missing and not os.path.lexists(path):
        raise UserError(missing)
    with open_regular(path) as file:
        check_no_pointer(path, file.read(len(LFS)))


def check_new_folder(to: Path) -> None:
    """Checks that a folder does not exist yet, or is empty.

    Args:
        to: the folder.

    Raises:
        UserError: there is something in it.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists already; give --to a new folder")


def read_text(path: str | os.PathLike[str], limit: int = TEXT_LIMIT) -> str:
    """Read a text file.

    Args:
        path: The file, in UTF-8.
        limit: The most bytes that it may have.

    Returns:
        Its content.

    Raises:
        UserError: It is missing, unreadable, no regular file, a Git LFS pointer, longer, or no UTF-8.
    """
    path = os.fspath(path)
    with open_regular(path) as file:
        content = file.read(limit + 1)
    check_no_pointer(path, content)
    if len(content) > limit:
        raise UserError(f"{path} is longer than {limit:,} bytes; give a text file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error


def check_no_pointer(path: str, content: bytes) -> None:
    """Check that a file's content is no Git LFS pointer in its place.

    Args:
        path: The file, for the error.
        content: Its content, or the beginning.

    Raises:
        UserError: It is one.
    """
    if content.startswith(LFS):
        raise UserError(
            f"'{path}' is a Git LFS pointer, not the file itself; fetch the file with git lfs pull"
        )


def retry_lost(read: Callable[[], Result], delays: tuple[float, ...] | None = None) -> Result:
    """Call a function again while its file is lost, as a network share loses one for a moment.

    Args:
        read: Reads a file that was there before; raises OSError, or a `UserError` of this module.
        delays: Seconds before each further attempt; None: up to 8 s in all.

    Returns:
        What `read` returns.

    Raises:
        OSError: The last attempt's, or one that no waiting helps, such as a missing permission.
        UserError: Likewise.
    """
    for delay in RETRY_DELAYS_S if delays is None else delays:
        try:
            return read()
        except (OSError, UserError) as error:
            cause = error.__cause__ if isinstance(error, UserError) else error
            if not isinstance(cause, OSError) or cause.errno not in LOST:
                raise
        time.sleep(delay)
    return read()


def _checked(path: str, found: os.stat_result) -> os.stat_result:
    kind = not_regular(found)
    if kind:
        raise UserError(f"{path} is {kind}, and only regular files are read")
    return found


def not_regular(found: os.stat_result) -> str | None:
    """What something is that is no regular file.

    Args:
        found: What `os.stat` returns.

    Returns:
        `a folder`, `a named pipe` or the like; None for a regular file.
    """
    if stat.S_ISREG(found.st_mode):
        return None
    return next((kind for is_one, kind in KINDS if is_one(found.st_mode)), "no regular file")


def _unreadable(path: str, error: OSError) -> UserError:
    if error.errno == errno.ENOENT:
        kind = "is a link to a missing file" if os.path.islink(path) else "is missing"
        return UserError(f"{path} {kind}")
    if error.errno == errno.ELOOP:
        return UserError(f"{path} is a link that leads back to itself")
    return UserError(f"cannot read {path}: {error.strerror}")
