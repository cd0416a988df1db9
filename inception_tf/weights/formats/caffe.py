# SPDX-License-Identifier: Apache-2.0
"""Caffe's `.caffemodel` files, read without Caffe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.proto_classes import Field, proto_class

__all__ = ["read_caffemodel"]

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


def read_caffemodel(path: str | Path) -> dict[str, np.ndarray]:
    """The weights of a `.caffemodel` file, in TensorFlow's layout.

    Args:
        path: The file.

    Returns:
        Layer and kind, such as `conv1/7x7_s2/kernel` → float32 array; kernels are (H, W, in, out), fully connected
        ones (in, out), biases (out,).

    Raises:
        UserError: The file cannot be read or has no layers with weights.
    """
    from google.protobuf.message import DecodeError

    net = proto_class("inception_tf.caffe", MESSAGES, "NetParameter", "proto2")()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise UserError(f"'{path}' is damaged or not a .caffemodel file") from error
    arrays = {}
    for layer in (*net.layer, *net.layers):
        for kind, blob in zip(("kernel", "bias"), layer.blobs, strict=False):
            arrays[f"{layer.name}/{kind}"] = _array(blob, kind)
    if not arrays:
        raise UserError(
            f"'{path}' has no layers with weights; give the .caffemodel of a trained network"
        )
    return arrays


def _array(blob: Any, kind: str) -> np.ndarray:
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    if kind == "bias":
        return np.array(blob.data, np.float32)
    array = np.array(blob.data, np.float32).reshape(shape)
    # Old files write a fully connected kernel as (1, 1, out, in).
    if array.ndim == 4 and array.shape[:2] != (1, 1):
        return array.transpose(2, 3, 1, 0)
    return array.reshape(array.shape[-2:]).T
