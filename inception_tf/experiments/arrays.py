# SPDX-License-Identifier: Apache-2.0
"""A small data set as arrays: all images in memory, at one size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inception_tf.data.decoding.transforms import Resize
from inception_tf.data.pipeline import evaluation_batches
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError

__all__ = ["Arrays", "load_arrays"]

CHUNK = 500  # images decoded at a time
LIMIT = 1 << 31  # bytes of pixels; more than that is no small data set


@dataclass(frozen=True)
class Arrays:
    """Two splits: images (N, S, S, 3) uint8 and classes (N,) int32; the names of the classes."""

    images: np.ndarray
    classes: np.ndarray
    test_images: np.ndarray
    test_classes: np.ndarray
    labels: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each split, for the report."""
        return {"train": len(self.images), "test": len(self.test_images)}


@lru_cache(maxsize=2)
def load_arrays(name: str, size: int) -> Arrays:
    """Decodes the training images and the held-out images of a source.

    Args:
        name: as for `open_source`.
        size: height and width in pixels.

    Returns:
        Both splits.

    Raises:
        UserError: there is no such data, more than 1 % of a split cannot be read (fewer are skipped, and named in
            the log), or it does not fit into 2 GiB.
    """
    source = open_source(name)
    splits = source.split("train"), source.split()
    pixels = sum(map(len, splits)) * size * size * 3
    if pixels > LIMIT:
        raise UserError(
            f"the images of {name} take {pixels / 2**30:.1f} GiB of memory at {size} pixels, and the experiment keeps"
            f" at most {LIMIT >> 30}; use a smaller data set"
        )
    return Arrays(*_decoded(splits[0], size), *_decoded(splits[1], size), source.labels)


def _decoded(split: Split, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The readable images, rounded to levels, and their classes, in the order of the split."""
    bad = BadImages(split, option=None)
    images, indices = [], []
    for pixels, index in evaluation_batches(split, (Resize(size),), batch_size=CHUNK, bad=bad):
        images.append(np.rint(pixels.numpy()).astype(np.uint8))
        indices.append(index.numpy())
    chosen = np.concatenate(indices)
    return np.concatenate(images), split.classes[chosen].astype(np.int32)
