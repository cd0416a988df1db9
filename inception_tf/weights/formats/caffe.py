# SPDX-License-Identifier: Apache-2.0
"""Caffe's `.caffemodel` files, read without Caffe."""

from __future__ import annotations

import math
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.files import check_content
from inception_tf.host.proto_classes import Field, proto_class
from inception_tf.weights.formats.stored import StoredArray, damage_is, read_wanted, shown_name
from inception_tf.weights.limits import check_size

__all__ = ["read_caffemodel"]

KINDS = ("kernel", "bias")  # of a layer's first blobs; a third has its number
FLOAT = np.dtype(np.float32)

# The few fields of Caffe's public caffe.proto that hold weights; a parser skips all others.
# fmt: off
MESSAGES = {
    "BlobShape": (Field("dim", 1, "int64", repeated=True),),
    "BlobProto": (
        Field("num", 1, "int32"),
        Field("channels", 2, "int32"),
        Field("height", 3, "int32"),
        Field("width", 4, "int32"),
        Field("data", 5, "float", repeated=True),
        Field("shape", 7, "BlobShape"),
    ),
    "LayerParameter":   (Field("name", 1, "string"), Field("blobs", 7, "BlobProto", repeated=True)),
    "V1LayerParameter": (Field("name", 4, "string"), Field("blobs", 6, "BlobProto", repeated=True)),
    "NetParameter": (
        Field("layers", 2, "V1LayerParameter", repeated=True),
        Field("layer", 100, "LayerParameter", repeated=True),
    ),
}
# fmt: on


def read_caffemodel(path: str | Path, wanted: Container[str], limit: int) -> dict[str, np.ndarray]:
    """The weights of a `.caffemodel` file, in TensorFlow's layout.

    Args:
        path: The file.
        wanted: Names of the arrays to read; the others are placeholders.
        limit: int. The most bytes that the file may have.

    Returns:
        Layer and kind, such as `conv1/7x7_s2/kernel` → float32 array; kernels are (H, W, in, out), fully connected
        ones (in, out), biases (out,).

    Raises:
        UserError: The file cannot be read or has no layers with weights.
    """
    check_content(path, f"no weights file at '{path}'; give a .caffemodel file")
    check_size(path, limit)
    with damage_is(f"'{path}' is damaged or not a .caffemodel file"):
        net = proto_class("inception_tf.caffe", MESSAGES, "NetParameter", "proto2")()
        net.ParseFromString(Path(path).read_bytes())
        stored: dict[str, StoredArray] = {}
        for layer in (*net.layer, *net.layers):
            layer.name.encode()  # a name that is no text comes as bytes
            for number, blob in enumerate(layer.blobs):
                kind = KINDS[number] if number < len(KINDS) else str(number)
                name = f"{layer.name}/{kind}"
                if name in stored:
                    raise UserError(
                        f"'{path}' has several layers called '{shown_name(layer.name)}'; give the file of one network alone"
                    )
                stored[name] = _stored(blob, kind, f"{name} in '{path}'")
        arrays = read_wanted(stored, wanted)
    if not arrays:
        raise UserError(
            f"'{path}' has no layers with weights; give the .caffemodel of a trained network"
        )
    return arrays


def _stored(blob: Any, kind: str, where: str) -> StoredArray:
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    if min(shape) < 0 or math.prod(shape) != len(blob.data):
        raise UserError(
            f"{where} has {len(blob.data):,} numbers and the shape {shape[:8]}; give an undamaged file"
        )
    if kind != "kernel":
        return StoredArray((len(blob.data),), FLOAT, lambda: np.array(blob.data, np.float32))
    # Old files write a fully connected kernel as (1, 1, out, in).
    kernel: tuple[int, ...]
    axes: tuple[int, ...]
    if len(shape) == 4 and shape[:2] != (1, 1):
        kernel, axes = shape, (2, 3, 1, 0)
    elif len(shape) >= 2:
        kernel, axes = shape[-2:], (1, 0)
    else:
        raise UserError(f"{where} is no kernel but has the shape {shape}; give an undamaged file")
    return StoredArray(
        tuple(kernel[axis] for axis in axes),
        FLOAT,
        lambda: np.array(blob.data, np.float32).reshape(kernel).transpose(axes),
    )
