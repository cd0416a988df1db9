# SPDX-License-Identifier: Apache-2.0
"""Class names as a text file, one per line, in the order of the network's outputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inception_tf.errors import UserError

__all__ = ["read_labels", "write_labels"]


def write_labels(path: str | Path, labels: Iterable[str]) -> None:
    """Write class names to a file.

    Args:
        path: The file, which is overwritten.
        labels: One name per class.
    """
    Path(path).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read class names from a file.

    Args:
        path: The file.

    Returns:
        One name per class.

    Raises:
        UserError: The file cannot be read as UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read labels from {path}: {error}") from error
    return tuple(text.splitlines())
