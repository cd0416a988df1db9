# SPDX-License-Identifier: Apache-2.0
"""Caffe's `.caffemodel` files: the tensors of each layer by name, without Caffe."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from inception_tf.errors import UserError

__all__ = ["read_caffemodel"]

# The few fields of Caffe's public caffe.proto that hold weights; all others are passed over.
# message → (field, number, type, label): o optional, r repeated, p repeated and packed.
MESSAGES = {
    "BlobShape": (("dim", 1, "int64", "p"),),
    "BlobProto": (
        ("num", 1, "int32", "o"),
        ("channels", 2, "int32", "o"),
        ("height", 3, "int32", "o"),
        ("width", 4, "int32", "o"),
        ("data", 5, "float", "p"),
        ("shape", 7, "BlobShape", "o"),
    ),
    "LayerParameter": (("name", 1, "string", "o"), ("blobs", 7, "BlobProto", "r")),
    "V1LayerParameter": (("name", 4, "string", "o"), ("blobs", 6, "BlobProto", "r")),
    "NetParameter": (("layers", 2, "V1LayerParameter", "r"), ("layer", 100, "LayerParameter", "r")),
}


def read_caffemodel(path: str | Path) -> dict[str, np.ndarray]:
    """`{"conv1/7x7_s2/kernel": (H, W, in, out), "conv1/7x7_s2/bias": (out,)}`, float32.

    Fully connected kernels are (in, out).  Raises `UserError` where the file cannot be read or holds
    no layers with weights.
    """
    from google.protobuf.message import DecodeError

    net = _net_class()()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise UserError(f"'{path}' is damaged or no .caffemodel file") from error
    arrays = {}
    for layer in (*net.layer, *net.layers):
        for kind, blob in zip(("kernel", "bias"), layer.blobs, strict=False):
            arrays[f"{layer.name}/{kind}"] = _array(blob, kind)
    if not arrays:
        raise UserError(
            f"'{path}' holds no layers with weights; give the .caffemodel of a trained network"
        )
    return arrays


def _array(blob, kind: str) -> np.ndarray:
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    if kind == "bias":
        return np.array(blob.data, np.float32)
    array = np.array(blob.data, np.float32).reshape(shape)
    # Old files write a fully connected kernel as (1, 1, out, in).
    if array.ndim == 4 and array.shape[:2] != (1, 1):
        return array.transpose(2, 3, 1, 0)
    return array.reshape(array.shape[-2:]).T


@cache
def _net_class():
    """The Python class of `NetParameter`, made from the table above."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="inception_tf_caffe.proto", package="inception_tf_caffe"
    )
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, label in fields:
            added = described.field.add(name=name, number=number)
            added.label = field.LABEL_OPTIONAL if label == "o" else field.LABEL_REPEATED
            added.options.packed = label == "p"
            if kind in MESSAGES:
                added.type, added.type_name = field.TYPE_MESSAGE, f".inception_tf_caffe.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("inception_tf_caffe.NetParameter")
    )
