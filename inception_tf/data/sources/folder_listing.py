# SPDX-License-Identifier: Apache-2.0
"""The files below a data folder: the images of each split and class, and all others with the reason why not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from inception_tf.data.sources.file_checks import check_file
from inception_tf.data.sources.names import no_folder
from inception_tf.data.sources.split_names import assign_splits
from inception_tf.errors import UserError, printable

__all__ = ["ClassImages", "FolderListing", "list_folder"]

# Why a file is not read, beside its own reasons.
APPLE = "macOS metadata: ._*, __MACOSX"
HIDDEN = "hidden: .*"
EXCLUDED = "in folders that --split-names excludes"
NESTED = "in folders inside class folders"
OUTSIDE = "images outside class folders"
MACOSX = "__MACOSX"


@dataclass
class ClassImages:
    """The images of one class in one split."""

    paths: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # bytes


@dataclass
class FolderListing:
    """Everything below a folder."""

    splits: dict[str, tuple[str, ...]]  # split → names of its folders; empty: class folders only
    # split → class → images; where there are no splits, the split is named ""
    classes: dict[str, dict[str, ClassImages]]
    unread: dict[str, str] = field(default_factory=dict)  # path → why it is not read
    nested: Counter[str] = field(default_factory=Counter)  # folder in a class folder → its images
    links: int = 0  # images that are links to files


def list_folder(
    root: str, *, split_names: str | None = None, nested: bool = False
) -> FolderListing:
    """List everything below a folder; each file is looked at once, and none is opened.

    Args:
        root: str. The folder.
        split_names: str. Which folders are which split; None: by their names.
        nested: Images in folders inside class folders are images of the class.

    Returns:
        The listing.

    Raises:
        UserError: The folder, or one in it, cannot be read, or its splits cannot be told.
    """
    listing = FolderListing({}, {})
    folders = {entry.name: entry for entry in _subfolders(listing, root)}
    listing.splits = assign_splits(folders, printable(root), chosen=split_names)
    if not listing.splits:
        listing.classes[""] = {}
        for entry in folders.values():
            _read_class(listing, "", entry, nested)
        return listing
    for split, names in listing.splits.items():
        listing.classes[split] = {}
        for name in names:
            for entry in _subfolders(listing, folders[name].path):
                _read_class(listing, split, entry, nested)
    taken = {name for names in listing.splits.values() for name in names}
    for name in folders.keys() - taken:
        _exclude(listing, folders[name], EXCLUDED)
    return listing


def _subfolders(listing: FolderListing, folder: str) -> Iterator[os.DirEntry[str]]:
    """The folders in a folder, sorted by name; files beside them are not read."""
    for entry in _scan(folder):
        if _is_metadata(listing, entry):
            continue
        if _is_folder(entry, folder):
            yield entry
        else:
            listing.unread[entry.path] = check_file(entry).reason or OUTSIDE


def _read_class(listing: FolderListing, split: str, folder: os.DirEntry[str], nested: bool) -> None:
    """Adds the images of a class folder, sorted by path."""
    found = []
    waiting = [folder.path]
    while waiting:
        for entry in _scan(waiting.pop()):
            if _is_metadata(listing, entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                if nested:
                    waiting.append(entry.path)
                else:
                    _exclude_nested(listing, entry)
                continue
            checked = check_file(entry)
            if checked.reason:
                listing.unread[entry.path] = checked.reason
            else:
                found.append((entry.path, checked.size))
                listing.links += entry.is_symlink()
    images = listing.classes[split].setdefault(folder.name, ClassImages())
    for path, size in sorted(found):
        images.paths.append(path)
        images.sizes.append(size)


def _exclude_nested(listing: FolderListing, folder: os.DirEntry[str]) -> None:
    for file in _files_below(listing, folder):
        reason = check_file(file).reason
        listing.unread[file.path] = reason or NESTED
        if not reason:
            listing.nested[folder.path] += 1


def _is_metadata(listing: FolderListing, entry: os.DirEntry[str]) -> bool:
    """Whether an entry holds no data of the user's; all below it is then not read."""
    if entry.name.startswith("._") or entry.name == MACOSX:
        _exclude(listing, entry, APPLE)
    elif entry.name.startswith("."):
        _exclude(listing, entry, HIDDEN)
    else:
        return False
    return True


def _exclude(listing: FolderListing, entry: os.DirEntry[str], reason: str) -> None:
    """Gives a file, or all files below a folder, a reason."""
    for file in _files_below(None, entry):
        listing.unread[file.path] = reason


def _files_below(
    listing: FolderListing | None, entry: os.DirEntry[str]
) -> Iterator[os.DirEntry[str]]:
    """A file itself, or all files below a folder; links to folders are not followed.

    With a listing, metadata is recorded there, and not yielded.
    """
    if not entry.is_dir(follow_symlinks=False):
        yield entry
        return
    waiting = [entry.path]
    while waiting:
        for below in _scan(waiting.pop()):
            if listing and _is_metadata(listing, below):
                continue
            if below.is_dir(follow_symlinks=False):
                waiting.append(below.path)
            else:
                yield below


def _is_folder(entry: os.DirEntry[str], parent: str) -> bool:
    """Whether an entry is a folder, or a link to one outside its parent and not around it.

    A link to a folder beside it would name the same images twice, one to a folder around it would never end.
    """
    try:
        if not entry.is_dir():
            return False
    except OSError:
        return False
    if not entry.is_symlink():
        return True
    there, here = (os.path.join(os.path.realpath(path), "") for path in (entry.path, parent))
    return not (there.startswith(here) or here.startswith(there))


def _scan(folder: str) -> list[os.DirEntry[str]]:
    shown = printable(folder)
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise no_folder(shown, is_file=False) from error
    except NotADirectoryError as error:
        raise no_folder(shown, is_file=True) from error
    except OSError as error:
        raise UserError(f"cannot read folder {shown}: {error.strerror}") from error
