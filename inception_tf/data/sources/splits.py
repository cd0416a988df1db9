# SPDX-License-Identifier: Apache-2.0
"""A data source, its splits, and the locations of TFRecords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from inception_tf.data.labels import names_shown
from inception_tf.errors import UserError, printable, unknown

__all__ = [
    "ALL",
    "HELD_OUT_FRACTION",
    "SPLIT_SEED",
    "Records",
    "Source",
    "Split",
    "held_out",
    "hold_out",
    "joined",
]

ALL = "all"  # the split with all images of a source
SPLIT_SEED = 20150211  # of the permutations for fixed splits: equal on every machine
HELD_OUT_FRACTION = 0.1  # of each class, for `validation` if a source has no splits


@dataclass(frozen=True)
class Records:
    """Locations of records in TFRecord files, so that any of them can be read alone."""

    files: tuple[str, ...]  # paths
    # (N, 4) int64: index of the file, number of the record in it, offset and length in bytes.
    locations: np.ndarray
    image_key: (
        str | None
    )  # the feature with the encoded image; None if the record is the image itself
    names: tuple[str, ...] | None = None  # of the files, for messages; None: their paths
    digests: np.ndarray | None = None  # (N,) uint64, hashes of the encoded images; None: not known

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, chosen: np.ndarray | slice) -> Records:
        if isinstance(chosen, slice):
            rows = self.locations[chosen]
        else:
            chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
            rows = self.locations.take(
                chosen, axis=0
            )  # several times as fast as an index, of millions
        digests = None if self.digests is None else self.digests[chosen]
        return replace(self, locations=rows, digests=digests)

    def describe(self, index: int) -> str:
        """The name of a record for messages.

        Args:
            index: int. Its index.

        Returns:
            The name of its file and its number in it.
        """
        file, number, *_ = self.locations[index]
        return f"{printable((self.names or self.files)[file])} record {number}"


@dataclass(frozen=True)
class Split:
    """Images with their classes; any image can be read by its index alone."""

    images: (
        np.ndarray | Records
    )  # (N,) paths, (N,) bytes of encoded images, (N, H, W, 3) uint8, or records
    classes: np.ndarray  # (N,) int64 from 0
    origin: Split | None = None  # the split that this is a cache of; it knows the images' names
    # name → reason, of what was found damaged when the list was made, and has no index here
    damaged: Mapping[str, str] = field(default_factory=dict)
    sizes: np.ndarray | None = None  # (N,) int64, bytes of the files; None: not known
    bits: int = 16  # that samples of 16 bits use
    # (N, K) uint8, 1 for each class that an image shows, of multi-label data, where `classes` is the first of them;
    # None: an image shows the one in `classes`
    targets: np.ndarray | None = None

    @property
    def decoded(self) -> bool:
        """Whether the images are pixels already."""
        return not isinstance(self.images, Records) and self.images.dtype == np.uint8

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, chosen: np.ndarray | list[int]) -> Split:
        """A subset of the images.

        Args:
            chosen: (M,) indices or (N,) bool.

        Returns:
            The subset, in the order of `chosen`.
        """
        chosen = np.asarray(chosen)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        sizes = None if self.sizes is None else self.sizes[chosen]
        targets = None if self.targets is None else self.targets[chosen]
        return Split(
            self.images[chosen], self.classes[chosen], sizes=sizes, bits=self.bits, targets=targets
        )

    def class_counts(self, classes: int) -> np.ndarray:
        """How many images show each class.

        Args:
            classes: int. The number of classes, K.

        Returns:
            (K,) int64.
        """
        if self.targets is None:
            return np.bincount(self.classes, minlength=classes)
        return self.targets.sum(axis=0, dtype=np.int64)

    def names(self, index: int, labels: Sequence[str]) -> tuple[str, ...]:
        """The names of the classes that an image shows.

        Args:
            index: int. Its index.
            labels: K class names.

        Returns:
            One name; of multi-label data any number.
        """
        target = None if self.targets is None else self.targets[index]
        return names_shown(labels, self.classes[index], target)

    def shifted(self, shift: int) -> Split:
        """The same images with other class numbers.

        Args:
            shift: int. Added to each class.

        Returns:
            The split.
        """
        return replace(self, classes=self.classes + shift) if shift else self

    def path(self, index: int) -> str | None:
        """The file that an image is read from.

        Args:
            index: int. Its index.

        Returns:
            Its path; None if it is in memory.
        """
        if isinstance(self.images, Records):
            return self.images.files[self.images.locations[index, 0]]
        return str(self.images[index]) if self.images.dtype.kind == "U" else None

    def describe(self, index: int) -> str:
        """The name of an image for messages.

        Args:
            index: int. Its index.

        Returns:
            Its path, its file and the number of its record, or its number.
        """
        if self.origin:
            return self.origin.describe(index)
        if isinstance(self.images, Records):
            return self.images.describe(index)
        return f"image {index}" if self.decoded else printable(str(self.images[index]))


@dataclass(frozen=True)
class Source:
    """A named data set with its splits and classes."""

    name: str
    labels: tuple[str, ...]  # names of the classes
    splits: Mapping[str, Split]  # disjoint
    named: bool = True  # False: the data does not name all classes, and numbers are used instead
    unread: Mapping[str, str] = field(default_factory=dict)  # path → why it is no image of the set
    problem: str | None = None  # why it cannot be used as it is
    warnings: tuple[str, ...] = ()  # what is to be said before it is used

    def held_out_split(self) -> str:
        """The name of the split for evaluation: `validation`, or `test`, or `all` if there is neither."""
        return next((part for part in ("validation", "test") if part in self.splits), ALL)

    def split(self, name: str | None = None) -> Split:
        """A split by name.

        Args:
            name: str. A key of `splits`, or `all` for every image; None: the one of `held_out_split`.

        Returns:
            The split.

        Raises:
            UserError: There is no such split, or it is empty.
        """
        if name is None:
            name = self.held_out_split()
        if name == ALL:
            return joined(list(self.splits.values()))
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, (*self.splits, ALL))
        if not len(self.splits[name]):
            raise UserError(f"split '{name}' of {self.name} is empty; put images into it")
        return self.splits[name]


def held_out(classes: np.ndarray) -> np.ndarray:
    """The images of each class that are held out for evaluation.

    Args:
        classes: (N,) int64 from 0.

    Returns:
        (N,) bool.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(classes))
    counts = np.bincount(classes)
    # Of 16 bits, because NumPy sorts only such numbers in linear time.
    keys = classes.astype(np.uint16) if len(counts) <= 1 << 16 else classes
    members = order[np.argsort(keys[order], kind="stable")]  # class by class
    number = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    of_class = np.maximum(counts > 1, np.rint(counts * HELD_OUT_FRACTION))
    held = np.zeros(len(classes), bool)
    held[members[number < np.repeat(of_class, counts)]] = True
    return held


def hold_out(split: Split, held: np.ndarray | None = None) -> dict[str, Split]:
    """Move the same fraction of each class to `validation`, at least one image if there are two.

    The choice depends on the order of the images alone, not on a run's seed, so that networks trained with
    different seeds can be evaluated, and averaged, on images that none of them was trained on.

    Args:
        split: All images.
        held: (N,) bool, what `held_out` returned for their classes; None: to be found.

    Returns:
        `train` and `validation`.
    """
    held = held_out(_strata(split)) if held is None else held
    train = replace(split.take(~held), damaged=split.damaged)
    return {"train": train, "validation": split.take(held)}


def _strata(split: Split) -> np.ndarray:
    """(N,) int64: the class of each image that the same fraction is held out of; of several the rarest one."""
    if split.targets is None or not split.targets.size:
        return split.classes
    classes = split.targets.shape[1]
    counts = np.where(split.targets, split.class_counts(classes), len(split) + 1)
    return np.where(split.targets.any(axis=1), counts.argmin(axis=1), classes)


def joined(splits: list[Split]) -> Split:
    """Join splits of one kind.

    Args:
        splits: At least one.

    Returns:
        All their images, in order.
    """
    images = [split.images for split in splits]
    if isinstance(images[0], Records):
        files = tuple(dict.fromkeys(file for part in images for file in part.files))
        number = {file: index for index, file in enumerate(files)}
        locations = [part.locations.copy() for part in images]
        for part, rows in zip(images, locations, strict=True):
            rows[:, 0] = np.array([number[file] for file in part.files])[rows[:, 0]]
        names = [name for part in images for name in part.names or part.files]
        shown = dict(zip((file for part in images for file in part.files), names, strict=True))
        digests = [part.digests for part in images]
        joined_images = replace(
            images[0],
            files=files,
            locations=np.concatenate(locations),
            names=tuple(shown[file] for file in files),
            digests=None if any(d is None for d in digests) else np.concatenate(digests),
        )
    else:
        joined_images = np.concatenate(images)
    sizes = [split.sizes for split in splits if split.sizes is not None]
    return Split(
        joined_images,
        np.concatenate([split.classes for split in splits]),
        damaged={name: reason for split in splits for name, reason in split.damaged.items()},
        sizes=np.concatenate(sizes) if len(sizes) == len(splits) else None,
        bits=splits[0].bits,
        targets=None
        if splits[0].targets is None
        else np.concatenate([split.targets for split in splits if split.targets is not None]),
    )
