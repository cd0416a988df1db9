# SPDX-License-Identifier: Apache-2.0
"""A fingerprint of a split: which images it has, in which order, and what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from inception_tf.data.sources.splits import Records, Split
from inception_tf.host.files import open_regular, retry_lost, stat_regular

__all__ = ["SplitFingerprint", "changed_since", "fingerprint_split"]

HASHED_BYTES = (
    1 << 28
)  # of all files together; more are compared by sizes and times, which takes no reading
THREADS = 16  # a share answers each question late, and many at once
PART = 256  # files that a thread takes at a time


@dataclass(frozen=True)
class SplitFingerprint:
    """What two splits share only if they give the same images and classes in the same order."""

    images: int
    names: (
        str  # hash of the images' names, relative to their folder, and of their classes, in order
    )
    contents: str  # hash of the images, or of their sizes and times


def fingerprint_split(split: Split) -> SplitFingerprint:
    """Make the fingerprint of a split.

    Pixels, records and files of up to 256 MiB in all are compared by their content; more files by their
    sizes and times.

    Args:
        split: The split; of a cached one the images that it was made from count.

    Returns:
        The fingerprint.

    Raises:
        UserError: A file is missing, unreadable, or no regular file.
    """
    if split.origin:
        return fingerprint_split(split.origin)
    images = split.images
    names: Iterable[str] = ()
    if isinstance(images, Records):
        # Where the records lie, and in which files, makes no difference.
        contents = _hash([images.digests]) if images.digests is not None else _hash_places(images)
    elif images.dtype.kind == "U":
        names, contents = _relative(images), _hash_files(images.tolist())
    else:
        contents = _hash([images] if images.dtype != object else images)
    digest = hashlib.sha256(np.ascontiguousarray(split.classes))
    if split.targets is not None:
        digest.update(np.ascontiguousarray(split.targets))
    for name in names:
        digest.update(f"{name}\n".encode(errors="surrogateescape"))
    return SplitFingerprint(len(split), digest.hexdigest(), contents)


def changed_since(split: Split, seconds: float, most: int = 3) -> list[str]:
    """The files of a split that changed after a point in time.

    Args:
        split: The split.
        seconds: float. The time, since 1970.
        most: int. How many are named.

    Returns:
        Their paths, as far as their times say it.
    """
    split = split.origin or split
    files: Iterable[str] = ()
    if isinstance(split.images, Records):
        files = split.images.names or split.images.files
    elif split.images.dtype.kind == "U":
        files = split.images.tolist()
    found = []
    for file in files:
        try:
            if os.stat(file).st_mtime > seconds:
                found.append(file)
        except OSError:
            continue
        if len(found) == most:
            break
    return found


def _relative(paths: np.ndarray) -> list[str]:
    """Paths below the folder that all of them share."""
    if not len(paths):
        return []
    listed = paths.tolist()
    # What the first and the last in order share, all between them share.
    root = os.path.commonpath([os.path.dirname(min(listed)), os.path.dirname(max(listed))])
    return [path[len(root) :] for path in listed]


def _hash_places(records: Records) -> str:
    states = [retry_lost(partial(stat_regular, file)) for file in records.files]
    times = np.array([(one.st_size, one.st_mtime_ns) for one in states], np.int64)
    return _hash([times, records.locations])


def _hash_files(paths: list[str]) -> str:
    parts = [paths[start : start + PART] for start in range(0, len(paths), PART)]
    with ThreadPoolExecutor(THREADS) as pool:
        states = np.concatenate([np.zeros((0, 2), np.int64), *pool.map(_states, parts)])
        if states[:, 0].sum() > HASHED_BYTES:
            return _hash([states])
        return _hash(content for part in pool.map(_digests, parts) for content in part)


def _states(paths: list[str]) -> np.ndarray:
    found = [retry_lost(partial(stat_regular, path)) for path in paths]
    return np.array([(one.st_size, one.st_mtime_ns) for one in found], np.int64)


def _digests(paths: list[str]) -> list[bytes]:
    found = []
    for path in paths:
        with retry_lost(partial(open_regular, path)) as stream:
            found.append(hashlib.file_digest(stream, "sha256").digest())
    return found


def _hash(parts: Iterable[bytes | np.ndarray]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else np.ascontiguousarray(part)
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
