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
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.data.sources.record_files import (
    Damage,
    has_valid_checksum,
    read_records,
    unpacked,
)
from inception_tf.data.sources.splits import Records, held_out
from inception_tf.errors import UserError, printable
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import cache_folder, retry_lost, stat_regular
from inception_tf.host.progress import progress_bar

__all__ = ["RecordIndex", "index_records", "keep_index", "parse_keys"]

# (image, label): slim's and the Model Garden's names, then those of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
TEXT = "image/class/text"
VERSION = 1  # of the cached form
THREADS = 4  # files read at a time, while Python parses the records of one of them
ALIGNMENT = 64  # bytes
MOST_LABELS = 1 << 24
SHOWN_AFTER_S = 3.0  # progress
EMPTY = "empty"
KINDS = {"int64_list": "integers", "float_list": "floats", "bytes_list": "bytes"}

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


@dataclass
class _FileIndex:
    """The index of one file, while it is made."""

    locations: list[tuple[int, int, int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    texts: dict[int, set[bytes]] = field(default_factory=dict)
    damaged: dict[str, tuple[int, str]] = field(default_factory=dict)


def parse_keys(text: str | None) -> dict[str, str]:
    """Parse the names of features.

    Args:
        text: str. `image=KEY,label=KEY` or one of them; None: nothing.

    Returns:
        `image` and `label` → feature, as far as they are named.

    Raises:
        UserError: It has another form.
    """
    parts = re.split(r",(?=(?:image|label)=)", text) if text is not None else []
    pairs = [part.partition("=") for part in parts]
    keys = {name: feature for name, _, feature in pairs}
    if not all(keys.values()) or not keys.keys() <= {"image", "label"} or len(keys) < len(pairs):
        raise UserError(
            f"--key must be image=KEY,label=KEY or one of them, such as image=jpg,label=cls, got '{text}'"
        )
    return keys


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
    found = _find_keys(files, plain, keys)
    with (
        progress_bar(None, "listing records", delay=SHOWN_AFTER_S, leave=False) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        indexed = []
        for one in pool.map(partial(_index_file, keys=found), range(len(files)), files, plain):
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
    return RecordIndex(records, labels, _names(indexed), damaged, empty)


def _nothing_readable(files: tuple[str, ...], damaged: Mapping[str, tuple[int, str]]) -> UserError:
    if not damaged:
        more = f" and {len(files) - 1} more are" if len(files) > 1 else " is"
        return UserError(f"{files[0]}{more} empty")
    name, (_, reason) = next(iter(damaged.items()))
    return UserError(
        f"no record of {files[0]} or of the files beside it can be read; {name}: {reason}"
    )


def _find_keys(
    files: tuple[str, ...], plain: tuple[str, ...], given: Mapping[str, str]
) -> tuple[str, str]:
    """The features of image and label, in the first record that is a tf.Example."""
    candidates = [(given.get("image", image), given.get("label", label)) for image, label in KEYS]
    for name, feature in _examples(files, plain):
        for pair in candidates:
            if set(pair) <= feature.keys():
                return pair
        raise _other_layout(name, feature, list(dict.fromkeys(candidates)))
    return candidates[0]


def _examples(
    files: tuple[str, ...], plain: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names and features of the records that can be parsed and are not empty."""
    for shown, file in zip(files, plain, strict=True):
        for number, item in enumerate(read_records(file)):
            if isinstance(item, Damage) or not item.content:
                continue
            feature = _features(item.content)
            if feature and has_valid_checksum(file, item.offset):
                yield f"{printable(shown)} record {number}", feature


def _other_layout(
    name: str, feature: Mapping[str, Any], wanted: list[tuple[str, str]]
) -> UserError:
    keys = [f"{printable(key)} ({_kind(feature[key])})" for key in sorted(feature)]
    pairs = " or ".join(f"'{image}' and '{label}'" for image, label in wanted)
    return UserError(
        f"{name} has the features {', '.join(keys) or 'none'}, not {pairs}; say with"
        " --key image=KEY,label=KEY which of them are the encoded image and the label"
    )


def _kind(feature: Any) -> str:
    return KINDS.get(feature.WhichOneof("kind"), "nothing")


def _index_file(number: int, file: str, plain: str, *, keys: tuple[str, str]) -> _FileIndex:
    index = _FileIndex()
    for count, item in enumerate(read_records(plain)):
        name = f"{printable(file)} record {count}"
        if isinstance(item, Damage):
            index.damaged[name] = (number, item.reason)
            continue
        row = _read_example(item.content or b"", keys)
        if isinstance(row, _Refused) and not has_valid_checksum(plain, item.offset):
            row = "damaged: the checksum is wrong"
        if isinstance(row, _Refused):
            raise row.error(name)
        if isinstance(row, str):
            index.damaged[name] = (number, row)
            continue
        label, digest, text = row
        index.locations.append((number, count, item.offset, item.length))
        index.labels.append(label)
        index.digests.append(digest)
        if text:
            index.texts.setdefault(label, set()).add(text)
    return index


@dataclass(frozen=True)
class _Refused:
    """Why an intact record ends the reading: its layout, not damage."""

    feature: Mapping[str, Any]
    keys: tuple[str, str]

    def error(self, name: str) -> UserError:
        image, label = self.keys
        if image not in self.feature or label not in self.feature:
            return _other_layout(name, self.feature, [self.keys])
        found = self.feature[label]
        if _kind(self.feature[image]) != "bytes":
            return UserError(
                f"{name} has {_kind(self.feature[image])} in '{image}', which must be one encoded image;"
                " choose another feature with --key image=KEY"
            )
        kind = found.WhichOneof("kind")
        count = len(getattr(found, kind).value) if kind else 0
        return UserError(
            f"{name} has {count} {_kind(found)} in '{label}', which must be a single integer; choose another"
            " feature with --key label=KEY"
        )


def _read_example(content: bytes, keys: tuple[str, str]) -> tuple[int, int, bytes] | str | _Refused:
    """Label, hash of the image and name of the class; or why the record is skipped, or refused."""
    if not content:
        return EMPTY
    feature = _features(content)
    if feature is None:
        return "damaged: not a tf.Example"
    if not set(keys) <= feature.keys():
        return _Refused(feature, keys)
    image, label = (feature[key] for key in keys)
    labels = label.int64_list.value
    if len(labels) != 1 or _kind(image) != "bytes":
        return _Refused(feature, keys)
    images = image.bytes_list.value
    if len(images) != 1:
        return f"{len(images)} images in one record"
    digest = hashlib.blake2b(images[0], digest_size=8).digest()
    text = b"".join(feature[TEXT].bytes_list.value) if TEXT in feature else b""
    return labels[0], int.from_bytes(digest, "little"), text


def _features(content: bytes) -> Mapping[str, Any] | None:
    """The features of a tf.Example; None if it is none."""
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(content).features.feature
    except DecodeError:
        return None


def _names(indexed: list[_FileIndex]) -> dict[int, str]:
    """The classes' names in the records; none if a label has several, which are then no names of classes."""
    found: dict[int, set[bytes]] = {}
    for one in indexed:
        for label, texts in one.texts.items():
            found.setdefault(label, set()).update(texts)
    for label, texts in found.items():
        if len(texts) > 1:
            first, second, *_ = (printable(text.decode(errors="replace")) for text in sorted(texts))
            log.warning(
                "label %d is named '%s' and '%s' in '%s', which is not read as the name of the class",
                *(label, first, second, TEXT),
            )
            return {}
    return {
        label: next(iter(texts)).decode("utf-8", "surrogateescape")
        for label, texts in found.items()
    }


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
