# SPDX-License-Identifier: Apache-2.0
"""Class folders as a data source: one folder per class, or folders of splits with class folders in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from inception_tf.data.formats import ENDINGS
from inception_tf.data.multi_label import merge_equal_images, same_names
from inception_tf.data.sources.folder_listing import (
    OUTSIDE,
    ClassImages,
    FolderListing,
    list_folder,
)
from inception_tf.data.sources.source_warnings import counted, listed
from inception_tf.data.sources.splits import Source, Split, hold_out
from inception_tf.errors import printable

__all__ = ["open_folder"]


def open_folder(
    name: str,
    root: Path,
    *,
    labels: tuple[str, ...] | None = None,
    split_names: str | None = None,
    nested: bool = False,
    multi_label: bool = False,
) -> Source:
    """Open class folders; without a validation or test folder, a tenth of each class is held out.

    Everything below the folder is an image of a split, or stands in the source's `unread`.

    Args:
        name: str. The name of the source.
        root: The folder.
        labels: The classes in order; None: the names of the class folders, sorted.
        split_names: str. Which folders are which split; None: by their names.
        nested: Images in folders inside class folders are images of the class.
        multi_label: Files with equal bytes in several class folders of a split are one image of all these classes.

    Returns:
        The source; what forbids its use is its `problem`.

    Raises:
        UserError: The folder is missing or cannot be read, or its splits cannot be told.
    """
    listing = list_folder(str(root), split_names=split_names, nested=nested)
    classes = labels or _class_names(listing)
    number = {label: index for index, label in enumerate(classes)}
    splits = {split: _split(found, number) for split, found in listing.classes.items()}
    empty = [split for split, images in splits.items() if not len(images)]
    splits = {split: images for split, images in splits.items() if len(images)}
    warnings = list(_warnings(listing, empty))
    if multi_label:
        for split, images in splits.items():
            splits[split], others = merge_equal_images(images, len(classes))
            listing.unread |= others
        warnings += same_names(splits)
    if set(splits) <= {"", "train"}:
        splits = hold_out(next(iter(splits.values()), _split({}, {})))
    return Source(
        name,
        classes,
        splits,
        unread=listing.unread,
        problem=_problem(root, listing, number, is_given=labels is not None),
        warnings=tuple(warnings),
    )


def _class_names(listing: FolderListing) -> tuple[str, ...]:
    """Folders with images: those of the training split, or of all where there is nothing to train on."""
    leading = listing.classes.get("", listing.classes.get("train"))
    parts = listing.classes.values() if leading is None else [leading]
    return tuple(sorted({label for part in parts for label, found in part.items() if found.paths}))


def _split(part: Mapping[str, ClassImages], number: Mapping[str, int]) -> Split:
    known = sorted(
        ((number[label], found) for label, found in part.items() if label in number),
        key=lambda pair: pair[0],
    )
    return Split(
        np.array([path for _, found in known for path in found.paths], str),
        np.array([index for index, found in known for _ in found.paths], np.int64),
        sizes=np.array([size for _, found in known for size in found.sizes], np.int64),
    )


def _problem(
    root: Path, listing: FolderListing, number: Mapping[str, int], *, is_given: bool
) -> str | None:
    """Why the folder cannot be used as it is; None if it can."""
    if listing.nested:
        first, *others = map(printable, listing.nested)
        more = f" and {len(others)} more folders inside class folders hold" if others else " holds"
        return (
            f"{first}{more} {counted(listing.nested.total(), 'image')}: read what is there as images of the class"
            " with --set data.nested=true, or move them"
        )
    for split, part in listing.classes.items():
        lacking = sorted(
            label for label, found in part.items() if found.paths and label not in number
        )
        if lacking:
            folders = ", ".join(listing.splits.get(split, ()))
            where = "the list of --labels" if is_given else f"{listing.splits['train'][0]}/"
            return (
                f"{printable(str(root / folders))} has class folders that {printable(where)} lacks:"
                f" {', '.join(map(printable, lacking))}{_other_forms(lacking, number)}"
            )
    names = [label for part in listing.classes.values() for label in part]
    if not number and len(names) > 1:
        return (
            f"{printable(str(root))} has no images; class folders must have files that end in"
            f" {', '.join(ENDINGS)}"
        )
    if len(number) < 2:
        found = f"only '{printable(next(iter(number or names)))}'" if number or names else "none"
        return f"{printable(str(root))} needs at least two class folders, found {found}{_unlabeled(root, listing)}"
    return None


def _unlabeled(root: Path, listing: FolderListing) -> str:
    """What to do with images that no folder names, or all of which are in one."""
    loose = sum(reason == OUTSIDE for reason in listing.unread.values())
    images = loose + sum(
        len(found.paths) for part in listing.classes.values() for found in part.values()
    )
    if not images:
        return ""
    beside = f", and {counted(loose, 'image')} outside of class folders" if loose else ""
    return (
        f"{beside}; images without labels cannot be evaluated or trained on, and are classified with:"
        f" inception-tf predict RUN {printable(str(root))}"
    )


def _other_forms(names: Sequence[str], known: Mapping[str, int]) -> str:
    """Tells names apart that look the same."""
    composed = {unicodedata.normalize("NFC", name): name for name in known}
    same = [(n, composed.get(unicodedata.normalize("NFC", n))) for n in names]
    pair = next((pair for pair in same if pair[1]), None)
    if not pair:
        return ""
    spelled = [
        f"{'NFC' if unicodedata.is_normalized('NFC', name) else 'NFD'},"
        f" {name.encode('ascii', 'backslashreplace').decode()}"
        for name in pair
        if name
    ]
    return (
        f"; '{pair[0]}' is written in the Unicode form {spelled[0]} here and {spelled[1]} there:"
        " rename one of them"
    )


def _warnings(listing: FolderListing, empty_splits: Sequence[str]) -> Iterator[str]:
    empty = [
        f"{split}/{label}".lstrip("/")
        for split, part in listing.classes.items()
        for label, found in part.items()
        if not found.paths
    ]
    if empty:
        yield f"class folders without an image that is read: {listed(empty)}"
    for split in filter(None, empty_splits):
        yield f"{', '.join(listing.splits[split])}/ has no image in a class folder, and is no split"
    if listing.links:
        yield f"links to files among the images: {listing.links}"
