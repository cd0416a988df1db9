# SPDX-License-Identifier: Apache-2.0
"""tf.Examples of images: their features by name, and the label, the hash and the class name of each record."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from inception_tf.data.sources.record_files import Damage, has_valid_checksum, read_records
from inception_tf.errors import UserError, printable

__all__ = ["FileIndex", "class_names", "find_keys", "index_file", "parse_keys"]

# (image, label): slim's and the Model Garden's names, then those of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
TEXT = "image/class/text"
EMPTY = "empty"
KINDS = {"int64_list": "integers", "float_list": "floats", "bytes_list": "bytes"}

log = logging.getLogger("inception_tf")


@dataclass
class FileIndex:
    """What the records of one file hold."""

    # index of the file, number of the record in it, offset and length in bytes
    locations: list[tuple[int, int, int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)  # hashes of the encoded images
    texts: dict[int, set[bytes]] = field(default_factory=dict)  # label → names of the class
    # name of the record → index of the file, why the record is skipped
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


def find_keys(
    files: tuple[str, ...], plain: tuple[str, ...], given: Mapping[str, str]
) -> tuple[str, str]:
    """Find the features of image and label, by the first record that is a tf.Example.

    Args:
        files: Paths, for messages.
        plain: Paths of the same files without compression.
        given: What `parse_keys` returned.

    Returns:
        The features of image and label.

    Raises:
        UserError: The record has other features.
    """
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


def index_file(number: int, file: str, plain: str, *, keys: tuple[str, str]) -> FileIndex:
    """Read the records of a file; those that are damaged are listed.

    Args:
        number: int. The index of the file.
        file: Its path, for messages.
        plain: The path of the file without compression.
        keys: What `find_keys` returned.

    Returns:
        What they hold.

    Raises:
        UserError: An intact record has no image, or no single integer label.
    """
    index = FileIndex()
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


def class_names(indexed: list[FileIndex]) -> dict[int, str]:
    """The names of classes in the records.

    Args:
        indexed: What each file holds.

    Returns:
        Label → name; none if a label has several, which are then no names of classes.
    """
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
