# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "fsync", "atomic_write_text"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed onto `path` at the end, removed after a failure."""
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """A text file that is either the old one or the new one, never half of it."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fsync(file) -> None:
    """Waits until an open file's content is on the disk."""
    file.flush()
    os.fsync(file.fileno())
