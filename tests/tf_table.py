# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's checkpoint index, byte by byte: LevelDB's table with one block, and its protobuf entries."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from inception_tf.weights.formats import tf_bundle

MAGIC = bytes.fromhex("57fb808b247547db")


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def entry(
    shape, size: int, dtype: int = 1, offset: int = 0, shard: int = 0, more: bytes = b""
) -> bytes:
    """A BundleEntryProto, with a checksum of 0."""
    dims = b"".join(message(2, number(1, side)) for side in shape)
    places = number(3, shard) + number(4, offset) + number(5, size)
    return number(1, dtype) + message(2, dims) + places + varint(6 << 3 | 5) + bytes(4) + more


def table(entries: Mapping[bytes, bytes]) -> bytes:
    """A table of one block, with right checksums."""
    out = b""

    def put(items) -> bytes:
        nonlocal out
        block = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in items)
        block += struct.pack("<II", 0, 1)
        handle = varint(len(out)) + varint(len(block))
        checksum = struct.pack("<I", masked(crc32c(block + b"\0")))
        out += block + b"\0" + checksum
        return handle

    items = sorted(entries.items())
    data = put(items)
    meta = put([])
    footer = meta + put([(items[-1][0] + b"\xff", data)])
    return out + footer.ljust(40, b"\0") + MAGIC


def read(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    return tf_bundle._table(content)


def crc32c(content: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
