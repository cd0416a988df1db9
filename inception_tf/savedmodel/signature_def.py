# SPDX-License-Identifier: Apache-2.0
"""The inputs and outputs of a SavedModel's signatures, read without TensorFlow's Python.

TensorFlow's own classes for its protos import all of it, which takes four seconds; the few fields that a client of
the C++ session needs are declared here again by their numbers, which a proto never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from inception_tf.errors import UserError
from inception_tf.host.proto_classes import Field, proto_class
from inception_tf.savedmodel.versions import GRAPH_FILE

__all__ = ["SERVE_TAG", "Signature", "read_meta_graph", "read_signatures", "read_tags"]

SERVE_TAG = "serve"

# From tensorflow/core/protobuf/saved_model.proto and meta_graph.proto.
# fmt: off
_MESSAGES = {
    "TensorInfo":   (Field("name", 1, "string"),),
    "Tensor":       (Field("key", 1, "string"), Field("value", 2, "TensorInfo")),
    "SignatureDef": (Field("inputs", 1, "Tensor", repeated=True),
                     Field("outputs", 2, "Tensor", repeated=True)),
    "Signature":    (Field("key", 1, "string"), Field("value", 2, "SignatureDef")),
    "MetaInfoDef":  (Field("tags", 4, "string", repeated=True),),
    "MetaGraphDef": (Field("meta_info_def", 1, "MetaInfoDef"),
                     Field("signature_def", 5, "Signature", repeated=True)),
    "SavedModel":   (Field("meta_graphs", 2, "MetaGraphDef", repeated=True),),
}
# fmt: on


@dataclass(frozen=True)
class Signature:
    """Names of the inputs and outputs, each with the name of its tensor in the graph, `operation:index`."""

    inputs: dict[str, str]
    outputs: dict[str, str]


def read_signatures(folder: str | Path) -> dict[str, Signature]:
    """Reads the signatures of the graph tagged `serve` of a SavedModel.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        Signature names to what they take and give.

    Raises:
        UserError: The folder holds no SavedModel with such a graph.
    """
    return {
        entry.key: Signature(_names(entry.value.inputs), _names(entry.value.outputs))
        for entry in _read_served_graph(folder).signature_def
    }


def read_meta_graph(folder: str | Path) -> Any:
    """Reads the whole graph tagged `serve` of a SavedModel; this alone imports TensorFlow.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        A `tf.compat.v1.MetaGraphDef`.

    Raises:
        UserError: The folder holds no SavedModel with such a graph.
    """
    import tensorflow as tf

    content = _read_served_graph(folder).SerializeToString()
    try:
        return tf.compat.v1.MetaGraphDef.FromString(content)
    except DecodeError as error:  # in a field that `_MESSAGES` has not
        raise _unreadable(folder, error) from error


def read_tags(folder: str | Path) -> tuple[tuple[str, ...], ...]:
    """Reads the tags of all graphs of a SavedModel.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        The tags of each graph, in the order of the file.

    Raises:
        UserError: The file cannot be read.
    """
    return tuple(tuple(graph.meta_info_def.tags) for graph in _read_graphs(folder))


def _read_served_graph(folder: str | Path) -> Any:
    """The graph tagged `serve` as a message of `_MESSAGES`, its other fields unread but kept."""
    for graph in _read_graphs(folder):
        if SERVE_TAG in graph.meta_info_def.tags:
            return graph
    raise UserError(
        f"'{Path(folder) / GRAPH_FILE}' has no graph tagged '{SERVE_TAG}', as TensorFlow Serving needs; export it again"
    )


def _read_graphs(folder: str | Path) -> Any:
    saved = _saved_model()()
    try:
        saved.ParseFromString((Path(folder) / GRAPH_FILE).read_bytes())
    except (OSError, DecodeError) as error:
        raise _unreadable(folder, error) from error
    return saved.meta_graphs


def _unreadable(folder: str | Path, error: Exception) -> UserError:
    path = Path(folder) / GRAPH_FILE
    return UserError(f"'{path}' cannot be read as a SavedModel; export it again ({error})")


def _names(tensors: Iterable[Any]) -> dict[str, str]:
    return {tensor.key: tensor.value.name for tensor in tensors}


@cache
def _saved_model() -> Any:
    return proto_class("inception_tf.saved_model", _MESSAGES, "SavedModel")
