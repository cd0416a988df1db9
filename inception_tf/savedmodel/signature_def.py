# SPDX-License-Identifier: Apache-2.0
"""What a SavedModel's signatures take and give, read without TensorFlow's Python.

TensorFlow's own classes for its protos import all of it, four seconds; the few fields that a client of the
C++ session needs are declared here again, by their numbers, which a proto keeps for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from inception_tf.errors import UserError
from inception_tf.savedmodel.versions import GRAPH_FILE

__all__ = ["SERVE_TAG", "Signature", "read_signatures", "served_graph"]

SERVE_TAG = "serve"

_PACKAGE = "inception_tf.saved_model"
_TEXT, _MANY = "text", True
# Message: its fields as (name, number, type, repeated).  From tensorflow/core/protobuf/saved_model.proto and
# meta_graph.proto; a map is on the wire a list of pairs.
_MESSAGES = {
    "TensorInfo": (("name", 1, _TEXT, False),),
    "Tensor": (("key", 1, _TEXT, False), ("value", 2, "TensorInfo", False)),
    "SignatureDef": (("inputs", 1, "Tensor", _MANY), ("outputs", 2, "Tensor", _MANY)),
    "Signature": (("key", 1, _TEXT, False), ("value", 2, "SignatureDef", False)),
    "MetaInfoDef": (("tags", 4, _TEXT, _MANY),),
    "MetaGraphDef": (
        ("meta_info_def", 1, "MetaInfoDef", False),
        ("signature_def", 5, "Signature", _MANY),
    ),
    "SavedModel": (("meta_graphs", 2, "MetaGraphDef", _MANY),),
}


@dataclass(frozen=True)
class Signature:
    """Names of the inputs and outputs, each with its tensor's name in the graph, `operation:index`."""

    inputs: dict[str, str]
    outputs: dict[str, str]


def read_signatures(folder: str | Path) -> dict[str, Signature]:
    """The signatures of the graph tagged `serve` in the SavedModel `folder`; `UserError` where there is none."""
    return {
        entry.key: Signature(_names(entry.value.inputs), _names(entry.value.outputs))
        for entry in served_graph(_saved_model()(), folder).signature_def
    }


def served_graph(saved, folder: str | Path):
    """The graph tagged `serve` of the SavedModel `folder`, which is read into `saved`, a SavedModel proto.

    `UserError` where there is none.
    """
    path = Path(folder) / GRAPH_FILE
    try:
        saved.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(
            f"'{path}' cannot be read as a SavedModel; export it again ({error})"
        ) from error
    for graph in saved.meta_graphs:
        if SERVE_TAG in graph.meta_info_def.tags:
            return graph
    raise UserError(
        f"'{path}' has no graph tagged '{SERVE_TAG}', as TensorFlow Serving needs; export it again"
    )


def _names(tensors) -> dict[str, str]:
    return {tensor.key: tensor.value.name for tensor in tensors}


@cache
def _saved_model():
    """The class of a SavedModel's proto, in a pool of its own: TensorFlow's has the same messages in full."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            added = described.field.add(name=name, number=number, label=label)
            if kind == _TEXT:
                added.type = field.TYPE_STRING
            else:
                added.type, added.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.SavedModel"))
