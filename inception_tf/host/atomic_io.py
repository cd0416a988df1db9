# SPDX-License-Identifier: Apache-2.0
"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["atomic_path", "atomic_write_text", "fsync", "remove_unfinished", "temporary_folder"]

# Without a host: of version 0.1.0.
UNFINISHED = re.compile(r"\.(unfinished|export)-(?P<process>\d+)(@(?P<host>[^@]*)@|-)")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it onto `path` at the end.

    The temporary file lies in the same folder and is removed after an error; that of a killed process by
    `remove_unfinished`.

    Args:
        path: the file to create or replace.

    Yields:
        The temporary path; the caller has to create a file there.
    """
    temporary = path.with_name(f".unfinished-{os.getpid()}@{_host()}@{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files and folders that processes of this host left in a folder when they were killed.

    Args:
        folder: searched without its subfolders.
    """
    for path in folder.glob(".*-*"):
        found = UNFINISHED.match(path.name)
        if found and found["host"] in (None, _host()) and not _is_running(int(found["process"])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def temporary_folder(folder: Path, kind: str) -> Path:
    """Makes a folder that `remove_unfinished` removes where its process is gone.

    Args:
        folder: where it is made.
        kind: the first word of its name, such as "export".

    Returns:
        The folder, empty.
    """
    prefix = f".{kind}-{os.getpid()}@{_host()}@"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder))


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())[:32]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def atomic_write_text(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees either the old content or the new, never part of it.

    Args:
        path: the file to create or replace.
        text: its content, written in UTF-8.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fsync(file: IO[Any]) -> None:
    """Waits until the content of an open file is on disk.

    Args:
        file: opened for writing.
    """
    file.flush()
    os.fsync(file.fileno())
