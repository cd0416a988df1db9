# SPDX-License-Identifier: Apache-2.0
"""TensorFlow 1's frozen graphs (`.pb`): a GraphDef read as data, without TensorFlow and without running it."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.files import check_content
from inception_tf.host.proto_classes import Field, proto_class
from inception_tf.weights.formats.stored import StoredArray, damage_is, read_wanted
from inception_tf.weights.limits import check_size

__all__ = ["GraphArrays", "GraphNode", "read_frozen_graph"]

# The few fields of tensorflow/core/framework/{graph,node_def,attr_value,tensor}.proto that are needed here.
# fmt: off
MESSAGES = {
    "Dim":        (Field("size", 1, "int64"),),
    "Shape":      (Field("dim", 2, "Dim", repeated=True),),
    "Tensor": (
        Field("dtype", 1, "int32"),
        Field("tensor_shape", 2, "Shape"),
        Field("tensor_content", 4, "bytes"),
        Field("float_val", 5, "float", repeated=True),
    ),
    "ListValue":  (Field("i", 3, "int64", repeated=True),),
    "AttrValue": (
        Field("list", 1, "ListValue"),
        Field("s", 2, "bytes"),
        Field("f", 4, "float"),
        Field("b", 5, "bool"),
        Field("tensor", 8, "Tensor"),
    ),
    "AttrEntry":  (Field("key", 1, "string"), Field("value", 2, "AttrValue")),
    "Node": (
        Field("name", 1, "string"),
        Field("op", 2, "string"),
        Field("input", 3, "string", repeated=True),
        Field("attr", 5, "AttrEntry", repeated=True),
    ),
    "Graph":      (Field("node", 1, "Node", repeated=True),),
}
# fmt: on
DT_FLOAT = 1


@dataclass(frozen=True)
class GraphNode:
    """One operation of a graph."""

    name: str
    op: str
    inputs: tuple[str, ...]  # names of the nodes it reads, without `:0`, and without control inputs
    attributes: Mapping[str, Any]  # strings, numbers and lists of integers


class GraphArrays(dict[str, np.ndarray]):
    """The float constants of a graph by name, and its nodes."""

    nodes: Mapping[str, GraphNode]


def read_frozen_graph(path: str, wanted: Container[str], limit: int) -> GraphArrays:
    """The constants of a frozen graph.

    Args:
        path: str. A binary `.pb` file.
        wanted: Names of the constants to read; the others are placeholders.
        limit: int. The most bytes that the file may have.

    Returns:
        Name of the constant → array as it is stored, kernels (H, W, in, out); with the nodes that read them.

    Raises:
        UserError: The file cannot be read, or is no graph with constants.
    """
    check_content(path, f"no graph at '{path}'; give a frozen graph, .pb")
    check_size(path, limit)
    with damage_is(f"'{path}' is damaged or not a frozen graph; give a complete .pb file"):
        graph = proto_class("inception_tf.graph", MESSAGES, "Graph")()
        graph.ParseFromString(Path(path).read_bytes())
        nodes, stored = {}, {}
        for node in graph.node:
            if node.name in nodes:
                raise UserError(
                    f"'{path}' has several nodes called '{node.name}'; give another file"
                )
            nodes[node.name] = _node(node)
            if node.op == "Const":
                tensor = next((a.value.tensor for a in node.attr if a.key == "value"), None)
                if tensor is not None and tensor.dtype == DT_FLOAT and len(tensor.tensor_shape.dim):
                    stored[node.name] = _stored(tensor, f"'{node.name}' in '{path}'")
        found = GraphArrays(read_wanted(stored, wanted))
    if not found:
        raise UserError(f"'{path}' has no constants; give a graph that was frozen with its weights")
    found.nodes = nodes
    return found


def _node(node: Any) -> GraphNode:
    inputs = (name.partition(":")[0] for name in node.input if not name.startswith("^"))
    attributes = {
        entry.key: tuple(entry.value.list.i)
        or entry.value.s.decode("latin-1")
        or entry.value.f
        or entry.value.b
        for entry in node.attr
        if entry.key != "value"
    }
    return GraphNode(node.name, node.op, tuple(inputs), attributes)


def _stored(tensor: Any, where: str) -> StoredArray:
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if min(shape) < 0:
        raise UserError(f"{where} has the shape {shape}, which no array can have")
    count, size = math.prod(shape), np.dtype(np.float32).itemsize
    there = len(tensor.tensor_content) // size or len(tensor.float_val)
    # TensorFlow stores equal numbers at the end once.
    if there > count or (there < count and (tensor.tensor_content or not there)):
        raise UserError(
            f"{where} has {there:,} numbers, and {count:,} by its shape; give a complete file"
        )
    return StoredArray(shape, np.dtype(np.float32), partial(_values, tensor, shape, where))


def _values(tensor: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
    values = np.array(tensor.float_val, np.float32)
    if len(values) > 1 or math.prod(shape) < 2**20:
        return np.pad(values, (0, math.prod(shape) - len(values)), "edge").reshape(shape)
    raise UserError(f"{where} is one number {math.prod(shape):,} times; give a file of weights")
