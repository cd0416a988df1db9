# SPDX-License-Identifier: Apache-2.0
"""Whether published numbers of CIFAR-10 come out, which only the real weights give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.generative.comparison import compute
from inception_tf.host.files import cache_folder

__all__ = ["ANCHORS", "Anchor", "Outcome", "check_anchors", "load_cifar10"]

SEED, DRAWN = (
    2020,
    5000,
)  # of torch-fidelity's utils/util_dump_dataset_as_images.py, with --limit 5000
FILES = "datasets/cifar-10-batches-py*"  # where Keras keeps the set


@dataclass(frozen=True)
class Anchor:
    """A published value."""

    metric: str
    words: str
    value: float
    tolerance: float  # absolute; other processors round convolutions otherwise
    source: str


@dataclass(frozen=True)
class Outcome:
    """A published value and what was computed here."""

    anchor: Anchor
    found: float

    @property
    def agrees(self) -> bool:
        """Whether both are equal within the tolerance."""
        return abs(self.found - self.anchor.value) <= self.anchor.tolerance


ANCHORS = (
    Anchor(
        *("fid", "FID of 5,000 training images against 5,000 test images", 10.3233274, 1e-4),
        "torch-fidelity, tests/precision/test_metric_fid_fidelity.py",
    ),
    Anchor(
        *("is", "inception score of the 50,000 training images", 11.23678, 1e-4),
        "torch-fidelity, README.md",
    ),
)


def load_cifar10() -> tuple[np.ndarray, np.ndarray]:
    """Loads CIFAR-10 in its original order from where Keras keeps it; nothing is downloaded.

    Returns:
        (50000, 32, 32, 3) training and (10000, 32, 32, 3) test images, uint8.

    Raises:
        UserError: It is not there.
    """
    folder = cache_folder().parent  # Keras' own
    if not list(folder.glob(FILES)):
        raise UserError(
            f"CIFAR-10 is not in {folder / 'datasets'}; fetch it (170 MB) with"
            " python -c 'import keras; keras.datasets.cifar10.load_data()'"
        )
    import keras

    (train, _), (test, _) = keras.datasets.cifar10.load_data()
    return np.asarray(train), np.asarray(test)


def check_anchors(train: np.ndarray, test: np.ndarray, **options: Any) -> list[Outcome]:
    """Computes the published values.

    Args:
        train: (50000, 32, 32, 3) uint8, the training images in their original order.
        test: (10000, 32, 32, 3) uint8.
        **options: `weights`, `backend` and the like of `comparison.compute`.

    Returns:
        One outcome per anchor.
    """
    pair = []
    for images in (train, test):
        chosen = np.random.RandomState(SEED).choice(
            len(images), min(DRAWN, len(images)), replace=False
        )
        pair.append(images[np.sort(chosen)])
    of_pair = compute(*pair, metrics=("fid",), **options)
    of_train = compute(train, metrics=("is",), **options)
    assert of_pair.fid is not None
    assert of_train.inception_score is not None
    values = {"fid": of_pair.fid, "is": of_train.inception_score.mean}
    return [Outcome(anchor, values[anchor.metric]) for anchor in ANCHORS]
