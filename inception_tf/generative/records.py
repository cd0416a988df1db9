# SPDX-License-Identifier: Apache-2.0
"""TFRecord files of encoded images, with or without labels, as images that can be read by index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.data.sources.record_files import (
    Damage,
    has_valid_checksum,
    read_records,
    unpacked,
)
from inception_tf.data.sources.splits import Records, Split
from inception_tf.data.sources.tfrecords import find_record_files
from inception_tf.errors import UserError, printable
from inception_tf.host.files import retry_lost, stat_regular

__all__ = ["open_records"]

KEYS = ("image/encoded", "image")  # slim's and TFDS' names of the feature


def open_records(pattern: str, key: str | None = None, bits: int = 16) -> Split:
    """Opens TFRecord files for their images; the labels, if there are any, are not looked at.

    Args:
        pattern: A glob of the files.
        key: The feature with the encoded image, `KEY` or `image=KEY`; None: slim's or TFDS'.
        bits: int from 8 to 16. Bits that samples of 16 bits use.

    Returns:
        The images, in the order of the files, which lists the records that are damaged.

    Raises:
        UserError: No file matches, or records have no such feature.
    """
    files, _ = find_record_files(pattern)
    wanted = (key.removeprefix("image="),) if key else KEYS
    damaged: dict[str, str] = {}
    rows, digests, plain_files, chosen = [], [], [], None
    for number, file in enumerate(files):
        plain, reason = unpacked(file, retry_lost(partial(stat_regular, file)))
        plain_files.append(plain)
        if reason:
            damaged[printable(file)] = reason
        for count, item in enumerate(read_records(plain)):
            name = f"{printable(file)} record {count}"
            if isinstance(item, Damage):
                damaged[name] = item.reason
                continue
            feature = _features(item.content or b"")
            image = _image_feature(feature, wanted)
            if feature is None or image is None:
                if feature is not None and has_valid_checksum(plain, item.offset):
                    raise _no_image(name, list(feature), wanted)
                damaged[name] = "damaged: not a tf.Example with one image"
                continue
            if chosen not in (None, image):
                raise UserError(
                    f"{name} has its image in '{image}', others in '{chosen}'; give --key"
                )
            chosen = image
            content = feature[image].bytes_list.value[0]
            digests.append(
                int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
            )
            rows.append((number, count, item.offset, item.length))
    if not rows:
        raise UserError(f"no record of {printable(pattern)} can be read")
    records = Records(
        tuple(plain_files),
        np.array(rows, np.int64),
        chosen,
        names=tuple(map(os.fspath, files)),
        digests=np.array(digests, np.uint64),
    )
    return Split(records, np.zeros(len(rows), np.int64), damaged=damaged, bits=bits)


def _image_feature(feature: Mapping[str, Any] | None, wanted: tuple[str, ...]) -> str | None:
    """The name of the one feature that has a single string of bytes."""
    found = [name for name in wanted if feature is not None and name in feature]
    if feature is None or not found or len(feature[found[0]].bytes_list.value) != 1:
        return None
    return found[0]


def _features(content: bytes) -> Mapping[str, Any] | None:
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(content).features.feature
    except DecodeError:
        return None


def _no_image(name: str, features: list[str], wanted: tuple[str, ...]) -> UserError:
    shown = ", ".join(printable(one) for one in sorted(features)) or "none"
    return UserError(
        f"{name} has the features {shown}, and no single image in {' or '.join(map(repr, wanted))}; say with"
        " --key KEY which of them is the encoded image"
    )
