# SPDX-License-Identifier: Apache-2.0
"""Images with equal bytes in training and evaluation, which make an accuracy better than it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from inception_tf.data.fingerprint import fingerprint_split
from inception_tf.data.sources.splits import Records, Source, Split
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.host.files import cache_folder, open_regular, retry_lost, stat_regular

__all__ = ["EqualImages", "duplicates_warning", "equal_images", "first_of_equals"]

ENDS = 4096  # bytes at a file's start and end that are compared before its whole content
THREADS = 16
KEPT_FROM = 20_000  # files, of which the ends alone would take seconds, and minutes on a share
LISTED = 3  # pairs in a warning

log = logging.getLogger("inception_tf")


@dataclass(frozen=True)
class EqualImages:
    """An image of another split whose bytes are those of a training image."""

    train: str  # name of the training image, the first of several
    split: str  # the other split
    image: str  # name of the image in it


def equal_images(source: Source, most: int | None = None) -> list[EqualImages] | None:
    """Find the images of other splits that are also among the training images, byte by byte.

    Files are compared by size first, then by their ends; only what agrees is read in full, and the hashes are
    kept in the cache folder until a file changes.  Records have their hashes in the index.

    Args:
        source: The data; pixels that are embedded are not compared.
        most: int. Files that may be opened, unless the result is known; None: any number.

    Returns:
        One entry for each such image, in the order of the splits; None if more than `most` have a size that
        both have.

    Raises:
        UserError: A file cannot be read.
    """
    train = source.splits.get("train")
    others = {name: split for name, split in source.splits.items() if name != "train"}
    if train is None or not others:
        return []
    kept = _kept_result(source)
    if kept and kept.is_file():
        with suppress(OSError, ValueError, TypeError):
            return [EqualImages(*row) for row in json.loads(kept.read_text(encoding="utf-8"))]
    found = []
    try:
        digests = _digests([train, *others.values()], most)
    except _TooManyFilesError:
        return None
    if digests is None:
        return []
    known, rows = np.unique(digests[0], return_index=True)
    for (name, split), theirs in zip(others.items(), digests[1:], strict=True):
        places = np.minimum(np.searchsorted(known, theirs), len(known) - 1)
        for index in np.flatnonzero((known[places] == theirs) & (theirs != UNKNOWN)):
            first = train.describe(int(rows[places[index]]))
            found.append(EqualImages(first, name, split.describe(int(index))))
    if kept:
        _keep(kept, [[one.train, one.split, one.image] for one in found])
    return found


def first_of_equals(split: Split) -> np.ndarray:
    """Find the images of one split that are the same file content; only files of equal sizes are opened.

    Args:
        split: Image files.

    Returns:
        (N,) int64: the index of the first image with the same bytes, which is an image's own if there is no other.

    Raises:
        UserError: A file cannot be read.
    """
    paths = [split.path(index) or "" for index in range(len(split))]
    sizes = split.sizes if split.sizes is not None else _sizes(paths)
    cached = _CachedHashes(paths)
    keys = sizes.astype(np.uint64)
    # Each comparison is made among what the one before it found equal; the ends of a small file are all of it.
    for hash_file, at_least in ((_hash_ends, 0), (cached.digest, 2 * ENDS + 1)):
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        shared = (counts[inverse] > 1) & (sizes >= at_least)
        [found] = _of(hash_file, [paths], [np.flatnonzero(shared)])
        # A file with no equal keeps a key of its own.
        single = np.arange(len(paths), dtype=np.uint64)
        keys = np.where(shared, found, np.where(counts[inverse] > 1, keys, single))
    cached.save()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def _kept_result(source: Source) -> Path | None:
    """Where the result for many files is kept, by the fingerprints of all splits; None for few files."""
    splits = source.splits.values()
    if any(isinstance(split.images, Records) or split.images.dtype.kind != "U" for split in splits):
        return None
    if sum(map(len, splits)) < KEPT_FROM:
        return None
    known = [dataclasses.astuple(fingerprint_split(split)) for split in splits]
    name = hashlib.sha256(json.dumps([list(source.splits), known]).encode()).hexdigest()[:32]
    return cache_folder() / "duplicates" / f"{name}.json"


def _keep(file: Path, content: object) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, json.dumps(content))
    except OSError as error:
        log.warning("hashes of images are not kept: cannot write %s: %s", file, error.strerror)


def duplicates_warning(found: list[EqualImages] | None) -> str | None:
    """Say how many images of other splits were found among the training images.

    Args:
        found: What `equal_images` returned.

    Returns:
        A sentence, or None if there are none.
    """
    if found is None:
        return (
            "whether images are both in train and in another split was not looked for, because too many files"
            " have equal sizes; --check compares them"
        )
    if not found:
        return None
    pairs = [f"{one.image} = {one.train}" for one in found[:LISTED]]
    more = f" and {len(found) - LISTED:,} more" if len(found) > LISTED else ""
    images = "image that is" if len(found) == 1 else "images that are"
    splits = " and ".join(dict.fromkeys(one.split for one in found))
    return (
        f"{splits}: {len(found):,} {images} also in train, byte by byte, so that accuracy is overestimated:"
        f" {', '.join(pairs)}{more}"
    )


UNKNOWN = np.uint64(0)  # in place of a hash where no other file can be equal


class _TooManyFilesError(Exception):
    """More files would be opened than allowed."""


def _digests(splits: list[Split], most: int | None) -> list[np.ndarray] | None:
    """A hash of each image of each split; None for images that are not compared."""
    images = [split.images for split in splits]
    if all(isinstance(one, Records) for one in images):
        found = [one.digests for one in images if isinstance(one, Records)]
        return None if any(one is None for one in found) else found
    paths = [
        one.tolist() for one in images if not isinstance(one, Records) and one.dtype.kind == "U"
    ]
    if len(paths) < len(splits):
        return None
    sizes = [
        split.sizes if split.sizes is not None else _sizes(files)
        for split, files in zip(splits, paths, strict=True)
    ]
    shared = np.intersect1d(sizes[0], np.concatenate(sizes[1:]))
    same_size = [np.flatnonzero(np.isin(one, shared)) for one in sizes]
    if most is not None and sum(map(len, same_size)) > most:
        raise _TooManyFilesError
    ends = _of(_hash_ends, paths, same_size)
    shared = np.intersect1d(ends[0], np.concatenate(ends[1:]))
    equal = [np.isin(one, shared[shared != UNKNOWN]) for one in ends]
    # The ends of a small file are all of it.
    large = [one > 2 * ENDS for one in sizes]
    cached = _CachedHashes([path for one in paths for path in one])
    whole = _of(
        cached.digest,
        paths,
        [np.flatnonzero(one & other) for one, other in zip(equal, large, strict=True)],
    )
    cached.save()
    return [
        np.where(is_large, of_all, np.where(is_equal, of_ends, UNKNOWN))
        for is_large, of_all, is_equal, of_ends in zip(large, whole, equal, ends, strict=True)
    ]


def _of(
    hash_file: Callable[[str], np.uint64], paths: list[list[str]], chosen: list[np.ndarray]
) -> list[np.ndarray]:
    """The hashes of some files of each split."""
    found = []
    with ThreadPoolExecutor(THREADS) as pool:
        for files, rows in zip(paths, chosen, strict=True):
            values = np.full(len(files), UNKNOWN)
            values[rows] = list(pool.map(hash_file, [files[row] for row in rows]))
            found.append(values)
    return found


def _sizes(paths: list[str]) -> np.ndarray:
    with ThreadPoolExecutor(THREADS) as pool:
        states = pool.map(lambda path: retry_lost(partial(stat_regular, path)), paths)
        return np.array([found.st_size for found in states], np.int64)


def _short(digest: bytes) -> np.uint64:
    return max(np.uint64(1), np.frombuffer(digest[:8], np.uint64)[0])  # not `UNKNOWN`


def _hash_ends(path: str) -> np.uint64:
    with retry_lost(partial(open_regular, path)) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(ENDS)
        stream.seek(max(0, size - ENDS))
        return _short(hashlib.sha256(b"%d " % size + content + stream.read(ENDS)).digest())


class _CachedHashes:
    """Hashes of whole files, kept until their sizes or times change."""

    def __init__(self, paths: Iterable[str]) -> None:
        folders = sorted({os.path.dirname(os.path.abspath(path)) for path in paths})
        root = os.path.commonpath(folders[:1] + folders[-1:]) if folders else ""
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self.file = cache_folder() / "hashes" / f"{name}.json"
        self.found: dict[str, list[int]] = {}
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self.known: dict[str, list[int]] = known if isinstance(known, dict) else {}

    def digest(self, path: str) -> np.uint64:
        state = retry_lost(partial(stat_regular, path))
        key = [state.st_size, state.st_mtime_ns]
        path = os.path.abspath(path)
        kept = self.known.get(path, [])
        if not isinstance(kept, list) or kept[:2] != key or len(kept) != 3:
            with retry_lost(partial(open_regular, path)) as stream:
                kept = [*key, int(_short(hashlib.file_digest(stream, "sha256").digest()))]
        self.found[path] = kept
        return np.uint64(kept[2])

    def save(self) -> None:
        if self.found and self.found != self.known:
            _keep(self.file, self.found)
