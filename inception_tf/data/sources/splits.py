# SPDX-License-Identifier: Apache-2.0
"""The nouns of a set of images: a split, and a source of splits with the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_tf.errors import UserError, unknown

__all__ = ["ALL", "HELD_OUT", "SPLIT_SEED", "Records", "Source", "Split", "hold_out"]

ALL = "all"  # the name under which every source gives all of its images
SPLIT_SEED = 20150211  # of the permutations behind fixed splits: the same on every machine
HELD_OUT = 0.1  # share of each class that becomes `validation` where a source has no splits


@dataclass(frozen=True)
class Records:
    """Places of tf.Examples in TFRecord files, so that each can be read without those before it.

    files: paths.  places: (N, 4) int64, each the file's index, the record's number in its file, its
    offset and its length in bytes.  image_key: the feature that holds the encoded image; None where
    the record is the image itself.
    """

    files: tuple[str, ...]
    places: np.ndarray
    image_key: str | None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen) -> Records:
        return Records(self.files, self.places[chosen], self.image_key)


@dataclass(frozen=True)
class Split:
    """Images with their classes; any of them can be read by its index alone.

    images: (N,) paths of encoded files, (N,) bytes, (N, H, W, 3) uint8, or `Records`.  classes: (N,)
    int64 from 0.  origin: the split that this one is a faster copy of, which knows the names.
    """

    images: np.ndarray | Records
    classes: np.ndarray
    origin: Split | None = None

    @property
    def decoded(self) -> bool:
        """Are the images pixels already?"""
        return not isinstance(self.images, Records) and self.images.dtype == np.uint8

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, chosen) -> Split:
        """The images at `chosen`: (M,) indices, or (N,) bool."""
        return Split(self.images[chosen], self.classes[chosen])

    def describe(self, index: int) -> str:
        """What a person would look for to find image `index`: its path, or its record and file."""
        if self.origin:
            return self.origin.describe(index)
        if isinstance(self.images, Records):
            file, number, *_ = self.images.places[index]
            return f"{self.images.files[file]} record {number}"
        return f"image {index}" if self.decoded else str(self.images[index])


@dataclass(frozen=True)
class Source:
    """A named set of images; every later step reads what it needs to know from here."""

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, Split]  # disjoint
    named: bool = True  # False: the data names no classes, or not all, and numbers stand in

    def unseen(self) -> str:
        """The split that a training does not learn from: `validation`, or `test`; `all` where there is neither."""
        return next((part for part in ("validation", "test") if part in self.splits), ALL)

    def split(self, name: str | None = None) -> Split:
        """The split of that name, `all` for every image; without a name, what is `unseen`."""
        if name is None:
            name = self.unseen()
        if name == ALL:
            return _joined(list(self.splits.values()))
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, (*self.splits, ALL))
        if not len(self.splits[name]):
            raise UserError(f"split '{name}' of {self.name} is empty; put images into it")
        return self.splits[name]


def hold_out(split: Split) -> dict[str, Split]:
    """Every class loses the same share to `validation`, at least one image where it has two.

    The choice depends on the order of the images alone, not on a run's seed: networks trained with
    different seeds can be scored, and averaged, on images that none of them has seen.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(split))
    held = np.zeros(len(split), bool)
    for index in np.unique(split.classes):
        members = order[split.classes[order] == index]
        held[members[: max(len(members) > 1, round(len(members) * HELD_OUT))]] = True
    return {"train": split.take(~held), "validation": split.take(held)}


def split_of(file: str) -> str | None:
    """The split that a TFRecord file's name states: `train-00000-of-00004`, `mnist-test.tfrecord-...`, or None."""
    words = "".join(c if c.isalpha() else " " for c in Path(file).name.lower()).split()
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def _joined(splits: list[Split]) -> Split:
    images = [split.images for split in splits]
    if isinstance(images[0], Records):
        files = tuple(dict.fromkeys(file for part in images for file in part.files))
        places = [part.places.copy() for part in images]
        for part, own in zip(images, places, strict=True):
            own[:, 0] = np.array([files.index(file) for file in part.files])[own[:, 0]]
        joined = Records(files, np.concatenate(places), images[0].image_key)
    else:
        joined = np.concatenate(images)
    return Split(joined, np.concatenate([split.classes for split in splits]))
