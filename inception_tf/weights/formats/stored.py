# SPDX-License-Identifier: Apache-2.0
"""Arrays in a file before they are read: their names and shapes are known, their values are not.

A file may claim any shape.  The readers of this folder therefore take the names that are wanted: those arrays
are read, and all others are placeholders of the claimed shape and dtype, which take no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from inception_tf.errors import UserError, printable

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "StoredArray",
    "abbreviate",
    "damage_is",
    "read_wanted",
    "shown_name",
]

LONGEST = 200  # letters of a name in a message
SHOWN = 3  # names that a message lists; the others are counted
NOTHING: Container[str] = frozenset()  # the names to read for names and shapes alone


class _All(Container[str]):
    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING: Container[str] = _All()  # for a file that is known to be harmless


@dataclass(frozen=True)
class StoredArray:
    """An array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]  # reads it, while the file is open


def read_wanted(stored: Mapping[str, StoredArray], wanted: Container[str]) -> dict[str, np.ndarray]:
    """Reads the wanted arrays of a file.

    Args:
        stored: Name → array in the file.
        wanted: The names of the arrays to read.

    Returns:
        Name → array; for a name that is not wanted a placeholder of its shape and dtype.

    Raises:
        UserError: A shape is impossible.
    """
    return {
        name: array.read() if name in wanted else _placeholder(name, array)
        for name, array in stored.items()
    }


def _placeholder(name: str, array: StoredArray) -> np.ndarray:
    try:
        return np.broadcast_to(np.zeros((), array.dtype), array.shape)
    except (ValueError, OverflowError) as error:
        shown = "x".join(map(str, array.shape[:8])) + ("x..." if len(array.shape) > 8 else "")
        raise UserError(
            f"the file says that its array '{shown_name(name)}' is {shown}, which no array can be;"
            " give a complete, undamaged file"
        ) from error


def shown_name(name: str) -> str:
    """A name from a file for a message, which may have any letters and any number of them.

    Args:
        name: The name.

    Returns:
        The name on one line, cut where it is long.
    """
    return printable(name if len(name) <= LONGEST else f"{name[:LONGEST]}...")


def abbreviate(names: Iterable[str]) -> str:
    """A list of names for a message.

    Args:
        names: The names.

    Returns:
        A text such as `a, b, c and 12 more`.
    """
    names = list(names)
    rest = len(names) - SHOWN
    return ", ".join(map(shown_name, names[:SHOWN])) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def damage_is(sentence: str) -> Iterator[None]:
    """Turns whatever a parser raises on a damaged file into a `UserError`.

    The parsers are other packages' (HDF5, torch, protobuf, zipfile), which promise no set of exceptions for bytes
    that are not theirs.

    Args:
        sentence: The error's sentence.

    Raises:
        UserError: The block raised; one of its own is passed on.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(sentence) from error
