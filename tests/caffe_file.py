# SPDX-License-Identifier: Apache-2.0
"""Caffe's `.caffemodel` files, byte by byte in protobuf's wire format with caffe.proto's field numbers."""

from __future__ import annotations

import numpy as np

NEW = {"layer": 100, "name": 1, "blobs": 7}  # LayerParameter
OLD = {"layer": 2, "name": 4, "blobs": 6}  # V1LayerParameter


def layer(name: str, *arrays: np.ndarray, old: bool) -> bytes:
    """A layer of a net with its weights; old: as files of before 2014's end have it."""
    fields = OLD if old else NEW
    blobs = b"".join(field(fields["blobs"], _blob(array, old)) for array in arrays)
    return field(fields["layer"], field(fields["name"], name.encode()) + blobs)


def field(number: int, content: bytes) -> bytes:
    """One field that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _blob(array: np.ndarray, old: bool) -> bytes:
    data = field(5, array.astype("<f4").tobytes())
    if old:
        shape = (1,) * (4 - array.ndim) + array.shape
        return b"".join(_varint(n << 3) + _varint(side) for n, side in enumerate(shape, 1)) + data
    return field(7, field(1, b"".join(map(_varint, array.shape)))) + data
