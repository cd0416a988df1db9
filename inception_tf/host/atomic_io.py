# SPDX-License-Identifier: Apache-2.0
"""Files that are written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["atomic_path", "atomic_write_text", "fsync"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it onto `path` at the end.

    The temporary file lies in the same folder and is removed after an error.

    Args:
        path: the file to create or replace.

    Yields:
        The temporary path; the caller has to create a file there.
    """
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
