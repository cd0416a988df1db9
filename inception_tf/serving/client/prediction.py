# SPDX-License-Identifier: Apache-2.0
"""What one image shows, and how its file is read: the same for a model in this process and for a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Prediction", "read_image"]


@dataclass(frozen=True)
class Prediction:
    """What one image shows: the best classes with their probabilities, or why it was refused."""

    image: str
    status: str  # `ok`, or why there are no classes
    top: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict:
        classes = [{"label": label, "score": score} for label, score in self.top]
        return {"image": self.image, "status": self.status, "top": classes}


def read_image(path: str | Path) -> tuple[bytes, str]:
    """The file's bytes and "", or nothing and why it cannot be read."""
    try:
        return Path(path).read_bytes(), ""
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"
