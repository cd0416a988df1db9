# SPDX-License-Identifier: Apache-2.0
"""The prediction for one image, and how its file is read: the same for a model in this process and for a server."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.host.files import kind_of_file

__all__ = ["THRESHOLD", "Prediction", "named_answers", "read_image"]

THRESHOLD = (
    0.5  # of independent classes: one is predicted where its probability is at least so high
)


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image with their probabilities, or why it was rejected."""

    image: str  # path, or index in the request
    status: str  # `ok`, or why there are no classes
    top: tuple[tuple[str, float], ...]  # class name and probability, best first

    def above(self, threshold: float | None) -> Prediction:
        """The prediction without the classes of low probability.

        Args:
            threshold: The lowest probability; None: all classes stay.

        Returns:
            The prediction, perhaps without any class.
        """
        if threshold is None:
            return self
        return replace(self, top=tuple(pair for pair in self.top if pair[1] >= threshold))

    def as_dict(self) -> dict[str, Any]:
        """The prediction for JSON: `image`, `status`, and `top` as `label` and `score`."""
        classes = [{"label": label, "score": score} for label, score in self.top]
        return {"image": self.image, "status": self.status, "top": classes}


def named_answers(
    row: np.ndarray, labels: Sequence[str], threshold: float | None = None
) -> tuple[tuple[str, float], ...]:
    """Names the classes that are predicted for one image.

    Args:
        row: (K,) probabilities.
        labels: K class names.
        threshold: Of independent classes, from which probability on one is predicted; None: the best class alone.

    Returns:
        Pairs (name, probability), the highest first; with a threshold there may be none.
    """
    if threshold is None:
        best = [int(row.argmax())]
    else:
        best = [k for k in np.argsort(-row, kind="stable").tolist() if row[k] >= threshold]
    return tuple((labels[k], float(row[k])) for k in best)


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
