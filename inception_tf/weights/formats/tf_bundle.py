# SPDX-License-Identifier: Apache-2.0
"""The index of a TensorFlow checkpoint in several files, checked before TensorFlow opens it.

TensorFlow's reader ends the process, without an exception, where a shape of the index is negative or overflows, has
too many dimensions, or where an entry is no protobuf message.  The format is LevelDB's table: tensorflow/core/lib/io
and tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inception_tf.errors import UserError
from inception_tf.host.files import check_content
from inception_tf.host.proto_classes import Field, proto_class
from inception_tf.weights.formats.stored import shown_name

__all__ = ["check_bundle"]

# fmt: off
MESSAGES = {
    "Dim": (Field("size", 1, "int64"),),
    "Shape": (Field("dim", 2, "Dim", repeated=True), Field("unknown_rank", 3, "bool")),
    "Slice": (Field("unused", 15, "int64"),),
    "Entry": (
        Field("dtype", 1, "int32"), Field("shape", 2, "Shape"), Field("shard_id", 3, "int32"),
        Field("offset", 4, "int64"), Field("size", 5, "int64"), Field("slices", 7, "Slice", repeated=True),
    ),
    "Header": (Field("num_shards", 1, "int32"),),
}
# fmt: on
FOOTER, MAGIC = 48, bytes.fromhex("57fb808b247547db")
TRAILER = 5  # bytes after a block: its compression and its checksum
MAX_INDEX = 16 * 2**20  # bytes; an index has about 80 for each variable
MAX_RANK = 8
MAX_ELEMENTS = 2**48
SIZES = {
    1: 4,
    2: 8,
    3: 4,
    9: 8,
    14: 2,
    19: 2,
}  # bytes of float32, float64, int32, int64, bfloat16, float16


def check_bundle(prefix: str) -> None:
    """Checks that TensorFlow can open a checkpoint.

    Args:
        prefix: The checkpoint's name, without `.index`.

    Raises:
        UserError: A file of it is missing or no regular file, or a variable is split over several slices.
        ValueError: The index is damaged.
    """
    index = Path(f"{prefix}.index")
    check_content(index)
    if index.stat().st_size > MAX_INDEX:
        raise ValueError("the index is too long")
    entries = dict(_table(index.read_bytes()))
    make = {name: proto_class("inception_tf.bundle", MESSAGES, name, "proto3") for name in MESSAGES}
    shards = make["Header"].FromString(entries.pop(b"")).num_shards
    if not 0 < shards <= len(entries) + 1:
        raise ValueError(f"{shards} shards")
    sizes = []
    for number in range(shards):
        shard = f"{prefix}.data-{number:05}-of-{shards:05}"
        check_content(shard)
        sizes.append(Path(shard).stat().st_size)
    for name, value in entries.items():
        entry = make["Entry"].FromString(value)
        if entry.slices:
            text = name.decode("utf-8", "replace")
            raise UserError(
                f"'{prefix}' has the variable '{shown_name(text)}' in several slices; save it whole"
            )
        count = _count(entry.shape)
        if entry.size != count * SIZES.get(entry.dtype, 0) and entry.dtype in SIZES:
            raise ValueError("a size that does not fit its shape")
        if not 0 <= entry.shard_id < shards or min(entry.offset, entry.size) < 0:
            raise ValueError("an entry of no shard")
        if entry.offset + entry.size > sizes[entry.shard_id]:
            raise ValueError("an entry beyond the end of its shard")


def _count(shape: Any) -> int:
    """The number of elements of a shape that TensorFlow can take."""
    if len(shape.dim) > MAX_RANK or shape.unknown_rank:
        raise ValueError("an unknown rank")
    most = 1
    for dim in shape.dim:
        most *= max(dim.size, 1)
        if dim.size < 0 or most > MAX_ELEMENTS:
            raise ValueError(f"a dimension of {dim.size}")
    return math.prod(dim.size for dim in shape.dim)


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values."""
    footer = content[-FOOTER:]
    if len(footer) < FOOTER or not footer.endswith(MAGIC):
        raise ValueError("no table")
    place = _handle(footer, _handle(footer, 0)[2])
    end = 0
    for _, handle in _block(content, *place[:2]):
        start, size, _ = _handle(handle, 0)
        if start < end:
            raise ValueError("blocks that overlap")
        end = start + size
        yield from _block(content, start, size)


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = content[start : start + size + TRAILER]
    if len(block) < size + TRAILER or size < 4:
        raise ValueError("a block beyond the end")
    kind, checksum = struct.unpack("<BI", block[size:])
    if kind:
        raise ValueError("a compressed block, which TensorFlow does not write into an index")
    if checksum != _masked(_crc32c(block[: size + 1])):
        raise ValueError("a wrong checksum")
    restarts = struct.unpack("<I", block[size - 4 : size])[0]
    end, place, key = size - 4 - 4 * restarts, 0, b""
    while place < end:
        shared, place = _varint(block, place)
        unshared, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise ValueError("an entry beyond its block")
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        yield key, block[place : place + length]
        place += length


def _handle(content: bytes, place: int) -> tuple[int, int, int]:
    """Start and size of a block, and the place after them."""
    start, place = _varint(content, place)
    size, place = _varint(content, place)
    return start, size, place


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number too long")


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


CRC = _crc_table()


def _crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """As LevelDB stores a checksum, so that the checksum of a checksum is not 0."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
