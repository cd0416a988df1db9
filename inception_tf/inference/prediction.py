# SPDX-License-Identifier: Apache-2.0
"""The prediction for one image, and how its file is read: the same for a model in this process and for a server."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inception_tf.host.files import kind_of_file

__all__ = ["Prediction", "read_image"]


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image with their probabilities, or why it was rejected."""

    image: str  # path, or index in the request
    status: str  # `ok`, or why there are no classes
    top: tuple[tuple[str, float], ...]  # class name and probability, best first

    def as_dict(self) -> dict[str, Any]:
        """The prediction for JSON: `image`, `status`, and `top` as `label` and `score`."""
        classes = [{"label": label, "score": score} for label, score in self.top]
        return {"image": self.image, "status": self.status, "top": classes}


def read_image(path: str | Path) -> tuple[bytes, str]:
    """Reads an image file.

    Args:
        path: The file.

    Returns:
        Its bytes and "", or no bytes and why it cannot be read; a pipe or a device, which might never end, is not.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b"", f"cannot be read: it is {kind_of_file(os.fspath(path))}"
        return Path(path).read_bytes(), ""
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"
