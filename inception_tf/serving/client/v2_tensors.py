# SPDX-License-Identifier: Apache-2.0
"""Tensors of the Open Inference Protocol: NumPy arrays as raw bytes or as JSON, and back."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "BYTES",
    "DTYPES",
    "FP32",
    "ModelMetadata",
    "TensorMetadata",
    "from_json",
    "from_raw",
    "from_values",
    "to_json",
    "to_raw",
]

BYTES, FP32 = "BYTES", "FP32"
# Little endian, as they travel; the protocol's other types are no outputs of a classifier.
DTYPES = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    FP32: "<f4",
    "FP64": "<f8",
}
LENGTH = struct.Struct("<I")  # before each element of BYTES
BASE64 = {"content_type": "base64"}  # in MLServer's requests and answers


@dataclass(frozen=True)
class TensorMetadata:
    """What a server says of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]  # -1 for any size


@dataclass(frozen=True)
class ModelMetadata:
    """What a server says of a model."""

    versions: tuple[str, ...]
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def to_raw(array: np.ndarray) -> bytes:
    """Encodes an array as bytes.

    Args:
        array: float32, or objects of `bytes`.

    Returns:
        Its values in order, elements of BYTES with their length before them.
    """
    if array.dtype != object:
        return array.astype(DTYPES[FP32]).tobytes()
    return b"".join(LENGTH.pack(len(item)) + item for item in array.ravel())


def to_json(array: np.ndarray) -> dict[str, Any]:
    """Encodes an array for JSON, bytes as base64, which the parameters say.

    Args:
        array: float32, or objects of `bytes`.

    Returns:
        `data`, and for bytes `parameters`.
    """
    if array.dtype != object:
        return {"data": array.ravel().tolist()}
    data = [base64.b64encode(item).decode() for item in array.ravel()]
    return {"data": data, "parameters": BASE64}


def from_raw(data: bytes, datatype: str, shape: Sequence[int]) -> np.ndarray:
    """Decodes an array.

    Args:
        data: As `to_raw` gives it.
        datatype: The protocol's name of the type.
        shape: The array's.

    Returns:
        Numbers, or objects of `str` for BYTES.

    Raises:
        ValueError: The bytes are no such array.
    """
    if datatype != BYTES:
        return np.frombuffer(data, _dtype(datatype)).reshape(_checked(shape))
    items, place = [], 0
    while place < len(data):
        if place + LENGTH.size > len(data):
            raise ValueError("BYTES that end within a length")
        (size,) = LENGTH.unpack_from(data, place)
        place += LENGTH.size + size
        if place > len(data):
            raise ValueError("BYTES that end within an element")
        items.append(data[place - size : place])
    return from_values(items, BYTES, shape)


def from_json(output: dict[str, Any]) -> np.ndarray:
    """Decodes an array of JSON.

    Args:
        output: An output of a reply, with `datatype`, `shape` and `data`, which may be nested.

    Returns:
        As `from_raw`.

    Raises:
        KeyError: Something is missing.
        TypeError: Something has another type.
        ValueError: The data are no such array.
    """
    datatype, shape, data = output["datatype"], output["shape"], output["data"]
    if not isinstance(data, list):
        raise TypeError("data that are no list")
    while data and isinstance(data[0], list):
        data = [value for row in data for value in row]
    is_coded = (output.get("parameters") or {}).get("content_type") == "base64"
    if datatype == BYTES and is_coded:
        data = [base64.b64decode(value, validate=True) for value in data]
    return from_values(data, datatype, shape)


def from_values(values: Sequence[Any], datatype: str, shape: Sequence[int]) -> np.ndarray:
    """Makes an array of its values.

    Args:
        values: In order.
        datatype: The protocol's name of the type.
        shape: The array's.

    Returns:
        As `from_raw`.

    Raises:
        TypeError: A value has another type.
        ValueError: The values are no such array.
    """
    if datatype != BYTES:
        return np.array(values, _dtype(datatype)).reshape(_checked(shape))
    array = np.empty(len(values), object)
    array[:] = [value.decode() if isinstance(value, bytes) else value for value in values]
    if not all(isinstance(value, str) for value in array):
        raise TypeError("BYTES that are no text")
    return array.reshape(_checked(shape))


def _dtype(datatype: Any) -> np.dtype:
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise ValueError(f"the type {datatype!r}")
    return np.dtype(DTYPES[datatype])


def _checked(shape: Any) -> tuple[int, ...]:
    """The shape, without -1, for which NumPy would compute a size."""
    sizes = tuple(shape)
    if not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) > 2**48:
        raise ValueError(f"the shape {list(sizes)}")
    return sizes
