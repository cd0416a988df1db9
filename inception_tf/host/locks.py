# SPDX-License-Identifier: Apache-2.0
"""A folder that one process at a time writes to."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from inception_tf.errors import UserError

__all__ = ["LOCK_FILE", "lock_folder"]

LOCK_FILE = ".lock"


@contextmanager
def lock_folder(folder: Path, work: str) -> Iterator[None]:
    """Keeps other processes from the same work in a folder, which is made where it is missing.

    The operating system holds the lock and drops it with the process, however that ends; over NFS, hosts see each
    other's.  Where there are no such locks (Windows), nothing is kept out.

    Args:
        folder: The folder.
        work: What is done in it, for the error: "trains into".

    Raises:
        UserError: A process works there already; its number and its host are named.
    """
    if os.name != "posix":
        yield
        return
    made = not folder.exists()
    path = folder / LOCK_FILE
    try:
        with _locked(path) as file:
            if file is None:
                raise UserError(
                    f"{_holder(path)} {work} {folder} already; wait until it ends or stop it, or use another folder"
                )
            file.truncate()
            json.dump({"process": os.getpid(), "host": socket.gethostname()}, file)
            file.flush()
            try:
                yield
            finally:
                path.unlink()  # while it is locked: who opens it from now on makes a new one
    finally:
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _is_in_the_way(folder: Path) -> bool:
    """Whether something that is no folder has its name."""
    try:
        return not stat.S_ISDIR(os.lstat(folder).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[IO[str] | None]:
    """The file, locked, or None where another process has the lock."""
    import fcntl

    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # who made the folder has just removed it again
            continue
        except FileExistsError:  # it was there, and gone when `mkdir` looked at what it is
            if _is_in_the_way(path.parent):
                raise
            continue
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    yield file
                    return
        # Its holder has removed it between the two calls; the next one is new.


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written it yet, or is gone
        return "another process"
