# SPDX-License-Identifier: Apache-2.0
"""The index of TFRecord files: place, label and hash of every image, made once and kept in the cache folder.

The files are read in full to make it; later starts read the index, until a file's size or time changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.data.sources.record_examples import class_names, find_keys, index_file
from inception_tf.data.sources.record_files import has_valid_checksum, unpacked
from inception_tf.data.sources.splits import Records, held_out
from inception_tf.errors import UserError, printable
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import cache_folder, retry_lost, stat_regular
from inception_tf.host.progress import progress_bar

__all__ = ["RecordIndex", "index_records", "keep_index"]

VERSION = 1  # of the cached form
THREADS = 4  # files read at a time, while Python parses the records of one of them
ALIGNMENT = 64  # bytes
MOST_LABELS = 1 << 24
SHOWN_AFTER_S = 3.0  # progress

log = logging.getLogger("inception_tf")


@dataclass(frozen=True)
class RecordIndex:
    """What the records of some files hold, in the order of the files."""

    records: Records
    labels: np.ndarray  # (N,) int64, as stored
    texts: Mapping[int, str]  # label → name, as far as records name them
    damaged: Mapping[str, tuple[int, str]]  # `FILE record 3` → index of its file, reason
    empty: tuple[str, ...]  # files without a record
    held: np.ndarray | None = None  # (N,) bool, `held_out` of the labels; None: not known

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self, index: int) -> str:
        """The name of a record for messages.

        Args:
            index: int. Its index.

        Returns:
            The name of its file and its number in it.
        """
        return self.records.describe(index)

    def is_intact(self, index: int) -> bool:
        """Whether the checksum of a record is right.

        Args:
            index: int. Its index.

        Returns:
            False if the record was damaged after it was written.
        """
        file, _, offset, _ = self.records.locations[index]
        return has_valid_checksum(self.records.files[file], int(offset))

    def without(self, rows: np.ndarray, reason: str) -> RecordIndex:
        """The index without some records, which are added to those that are damaged.

        Args:
            rows: (M,) int, their indices.
            reason: str. Why they are skipped.

        Returns:
            The index of the others, in the same order.
        """
        kept = np.ones(len(self), bool)
        kept[rows] = False
        files = self.records.locations[:, 0]
        removed = {self.describe(row): (int(files[row]), reason) for row in rows}
        damaged = {**self.damaged, **removed}
        return RecordIndex(self.records[kept], self.labels[kept], self.texts, damaged, self.empty)


def index_records(files: tuple[str, ...], keys: Mapping[str, str]) -> RecordIndex:
    """Find all records of some files, from the cache if the files are unchanged.

    Records that are damaged so that no label can be read are skipped and listed.

    Args:
        files: Paths.
        keys: What `parse_keys` returned; where it names none, slim's features or TFDS'.

    Returns:
        The index.

    Raises:
        UserError: A file is no TFRecord file or cannot be read, no record can be read, or an intact record
            has no image and single integer label.
    """
    states = _states(files)
    index = _read_cached(_cached_file(files, keys), states, files)
    if index is None:
        index = _make_index(files, states, keys)
        keep_index(files, keys, index, states)
    return index


def keep_index(
    files: tuple[str, ...],
    keys: Mapping[str, str],
    index: RecordIndex,
    states: list[os.stat_result] | None = None,
) -> None:
    """Write an index into the cache folder; if that fails, it is logged.

    Args:
        files: Paths.
        keys: As for `index_records`.
        index: Of these files.
        states: Of the files when they were read; None: now.
    """
    facts: dict[str, Any] = {
        "state": _as_lists(_states(files) if states is None else states),
        "plain": index.records.files,
        "image_key": index.records.image_key,
        "texts": index.texts,
        "damaged": index.damaged,
        "empty": index.empty,
    }
    # Of impossible labels there is no count of each.
    possible = index.labels.min() >= 0 and index.labels.max() <= MOST_LABELS
    held = held_out(index.labels) if possible else np.zeros(0, bool)
    arrays = [index.records.locations, index.labels, np.asarray(index.records.digests), held]
    facts["held"] = len(held)
    facts["checksum"] = _checksum(arrays)
    facts["records"] = len(index)
    file = _cached_file(files, keys)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            header = json.dumps(facts).encode()
            # Padded, so that the numbers behind it can be used where they lie.
            stream.write(header + b" " * (-(len(header) + 1) % ALIGNMENT) + b"\n")
            for array in arrays:
                stream.write(np.ascontiguousarray(array).data)
    except OSError as error:
        log.warning(
            "the list of records is not kept, and is made again at the next start: cannot write %s: %s",
            *(file, error.strerror),
        )


def _states(files: tuple[str, ...]) -> list[os.stat_result]:
    return [retry_lost(partial(stat_regular, file)) for file in files]


def _as_lists(states: list[os.stat_result]) -> list[list[int]]:
    return [[found.st_size, found.st_mtime_ns] for found in states]


def _cached_file(files: tuple[str, ...], keys: Mapping[str, str]) -> Path:
    paths = [os.path.abspath(file) for file in files]
    named = json.dumps([VERSION, paths, sorted(keys.items())]).encode()
    return cache_folder() / "records" / f"{hashlib.sha256(named).hexdigest()[:32]}.index"


def _make_index(
    files: tuple[str, ...], states: list[os.stat_result], keys: Mapping[str, str]
) -> RecordIndex:
    plain, unfinished = zip(*map(unpacked, files, states), strict=True)
    found = find_keys(files, plain, keys)
    with (
        progress_bar(None, "listing records", delay=SHOWN_AFTER_S, leave=False) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        indexed = []
        for one in pool.map(partial(index_file, keys=found), range(len(files)), files, plain):
            indexed.append(one)
            bar.update(len(one.labels))
    damaged = {name: why for one in indexed for name, why in one.damaged.items()}
    for number, (file, reason) in enumerate(zip(files, unfinished, strict=True)):
        if reason:
            damaged[f"end of {printable(file)}"] = (number, reason)
    locations = [row for one in indexed for row in one.locations]
    if not locations:
        raise _nothing_readable(files, damaged)
    records = Records(
        tuple(plain),
        np.array(locations, np.int64),
        found[0],
        names=files,
        digests=np.array([value for one in indexed for value in one.digests], np.uint64),
    )
    labels = np.array([label for one in indexed for label in one.labels], np.int64)
    empty = tuple(
        file for file, one in zip(files, indexed, strict=True) if not one.labels and not one.damaged
    )
    return RecordIndex(records, labels, class_names(indexed), damaged, empty)


def _nothing_readable(files: tuple[str, ...], damaged: Mapping[str, tuple[int, str]]) -> UserError:
    if not damaged:
        more = f" and {len(files) - 1} more are" if len(files) > 1 else " is"
        return UserError(f"{files[0]}{more} empty")
    name, (_, reason) = next(iter(damaged.items()))
    return UserError(
        f"no record of {files[0]} or of the files beside it can be read; {name}: {reason}"
    )


def _read_cached(
    file: Path, states: list[os.stat_result], files: tuple[str, ...]
) -> RecordIndex | None:
    """The cached index; None if there is none, the record files have changed, or it is damaged."""
    try:
        with open(file, "rb") as stream:
            header = stream.readline()
            facts = json.loads(header)
            if facts["state"] != _as_lists(states) or not all(map(os.path.isfile, facts["plain"])):
                return None
            # Not copied: of millions of records, that would take seconds.
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        count, start = facts["records"], len(header)
        numbers = np.frombuffer(content, np.int64, count * 6, start)
        locations, labels, digests = np.split(numbers, [count * 4, count * 5])
        held = np.frombuffer(content, bool, facts["held"], start + numbers.nbytes)
        if facts["checksum"] != _checksum([numbers, held]):
            return None
        return RecordIndex(
            Records(
                tuple(facts["plain"]),
                locations.reshape(count, 4),
                facts["image_key"],
                files,
                digests.view(np.uint64),
            ),
            labels,
            {int(label): text for label, text in facts["texts"].items()},
            {name: tuple(why) for name, why in facts["damaged"].items()},
            tuple(facts["empty"]),
            held if len(held) == count else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(arrays: Iterable[np.ndarray]) -> int:
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found
