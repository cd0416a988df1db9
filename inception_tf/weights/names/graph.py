# SPDX-License-Identifier: Apache-2.0
"""The weights of a frozen graph, found by its structure: a table is followed from the logits back to the image.

No name of a tensor is used: those of Google's graph of 2015-12-05 (`mixed_3/tower/conv_1/conv2d_params`) differ from
slim's, and what matters, such as which pool the last block has, is in the operations and not in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import UserError, unknown
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.frozen_graph import GraphArrays, GraphNode

__all__ = ["NETWORKS_OF_GRAPHS", "graph_names", "weights_of"]

# Network → the variants that a graph may be of.
NETWORKS_OF_GRAPHS: dict[str, tuple[dict[str, Any], ...]] = {
    "inception_v3": ({}, {"last_pool": "max"}),
}
# Operations that pass their first input on, whatever its shape.
PASSING = ("Identity", "CheckNumerics", "Reshape", "Squeeze", "StopGradient", "Softmax")
EPSILON = 1e-3  # of every batch normalization of this package's published networks


class _OtherStructureError(Exception):
    """The graph has something else than the table, at a node."""


def graph_names(
    network: Network, arrays: Mapping[str, np.ndarray], ema: bool = False
) -> dict[str, str]:
    """The names of a network's variables in a frozen graph.

    Args:
        network: The network.
        arrays: What `weights_of` returned.
        ema: bool. Ignored: a graph has one set of weights.

    Returns:
        Our variable path → the name of the constant; up to the first step that the graph does not have.

    Raises:
        UserError: Graphs of this network are not read, or the graph has several classifiers or none.
    """
    if network.name not in NETWORKS_OF_GRAPHS:
        raise unknown("network of frozen graphs", network.name, NETWORKS_OF_GRAPHS)
    if not isinstance(arrays, GraphArrays):
        raise TypeError("arrays of a frozen graph come with its nodes")
    walk = _Walk(arrays)
    try:
        place = walk.classifier()
        for name, step in reversed(network.backbone):
            place = walk.step(step, place, name)
    except _OtherStructureError:
        pass
    return walk.found


class _Walk:
    """The names that have been found on the way from the classifier to the image."""

    def __init__(self, arrays: GraphArrays):
        self.arrays, self.nodes = arrays, arrays.nodes
        self.found: dict[str, str] = {}

    def classifier(self) -> str:
        """Takes the dense layer and the global pool; returns the final feature map."""
        dense = [node for node in self.nodes.values() if node.op == "MatMul"]
        if len(dense) != 1:
            raise UserError(
                f"the graph has {len(dense)} matrix products, where a classifier has one; give the graph of one network"
            )
        features, kernel = dense[0].inputs
        self.take(f"{LOGITS}/kernel", kernel)
        for node in self.nodes.values():
            if node.op in ("BiasAdd", "Add", "AddV2") and dense[0].name in node.inputs:
                bias = next(name for name in node.inputs if name != dense[0].name)
                self.take(f"{LOGITS}/bias", bias)
        pool = self.of(features, "AvgPool", "Mean")
        return pool.inputs[0]

    def step(self, step: spec.Step, place: str, name: str) -> str:
        """Takes the weights of a step whose output is `place`; returns its input."""
        if isinstance(step, spec.Fork):
            return self.fork(step, self.leaves(place), name)
        if isinstance(step, spec.Pool):
            node = self.of(place, {"max": "MaxPool", "avg": "AvgPool"}[step.kind])
            self.check(node, "ksize", step)
            return node.inputs[0]
        if isinstance(step, spec.Conv) and not step.linear:
            return self.convolution(step, place, name)
        raise UserError(f"frozen graphs with {type(step).__name__} are not read")

    def fork(self, step: spec.Fork, leaves: list[str], name: str) -> str:
        """The branches of a fork; a fork at the end of a branch may be concatenated with them or before."""
        inputs = set()
        for b, branch in enumerate(step.branches):
            last = branch[-1]
            place = leaves.pop(0) if leaves else ""
            if isinstance(last, spec.Fork):
                inner = self.leaves(place)
                if len(inner) < len(last.branches):
                    missing = len(last.branches) - len(inner)
                    inner, leaves = [*inner, *leaves[:missing]], leaves[missing:]
                place = self.fork(last, inner, f"{name}_b{b}_{len(branch) - 1}")
                branch = branch[:-1]
            for s in reversed(range(len(branch))):
                place = self.step(branch[s], place, f"{name}_b{b}_{s}")
            inputs.add(self.passed(place))
        if leaves or len(inputs) != 1:
            raise _OtherStructureError(name)
        return inputs.pop()

    def leaves(self, place: str) -> list[str]:
        """What is concatenated at a place, or the place itself."""
        node = self.nodes.get(self.passed(place))
        if node is not None and node.op == "Concat":
            return list(node.inputs[1:])
        if node is not None and node.op == "ConcatV2":
            return list(node.inputs[:-1])
        return [place]

    def convolution(self, step: spec.Conv, place: str, name: str) -> str:
        activation = self.of(place, "Relu")
        norm = self.of(
            activation.inputs[0],
            "BatchNormWithGlobalNormalization",
            "FusedBatchNorm",
            "FusedBatchNormV3",
        )
        if norm.op == "BatchNormWithGlobalNormalization":
            x, mean, variance, beta, gamma = norm.inputs
            scaled = bool(norm.attributes.get("scale_after_normalization"))
            epsilon = norm.attributes.get("variance_epsilon")
        else:
            x, gamma, beta, mean, variance = norm.inputs
            scaled, epsilon = True, norm.attributes.get("epsilon")
        if not isinstance(epsilon, float) or abs(epsilon - EPSILON) > 1e-6:
            raise UserError(
                f"'{norm.name}' of the graph has the epsilon {epsilon}; {EPSILON} is read, which Inception networks have"
            )
        convolution = self.of(x, "Conv2D")
        self.check(convolution, None, step)
        self.take(f"{name}_conv/kernel", convolution.inputs[1])
        self.take(f"{name}_bn/beta", beta)
        self.take(f"{name}_bn/moving_mean", mean)
        self.take(f"{name}_bn/moving_variance", variance)
        if scaled:
            self.take(f"{name}_bn/gamma", gamma)
        return convolution.inputs[0]

    def check(self, node: GraphNode, window: str | None, step: spec.Conv | spec.Pool) -> None:
        """That stride, padding and window are the table's."""
        strides = (1, step.stride, step.stride, 1)
        padding = {spec.SAME: "SAME", spec.VALID: "VALID"}.get(str(step.padding))
        wrong = (
            node.attributes.get("strides") != strides or node.attributes.get("padding") != padding
        )
        if window:
            wrong |= node.attributes.get(window) != (1, *step.window, 1)
        if wrong:
            raise _OtherStructureError(node.name)

    def of(self, place: str, *operations: str) -> GraphNode:
        """The node at a place, which must be one of these operations."""
        node = self.nodes.get(self.passed(place))
        if node is None or node.op not in operations:
            raise _OtherStructureError(place)
        return node

    def passed(self, place: str) -> str:
        """The place before operations that pass their input on."""
        for _ in range(len(self.nodes)):
            node = self.nodes.get(place)
            if node is None or node.op not in PASSING or not node.inputs:
                break
            place = node.inputs[0]
        return place

    def take(self, ours: str, constant: str) -> None:
        name = self.passed(constant)
        if name not in self.arrays:
            raise _OtherStructureError(constant)
        self.found[ours] = name


def weights_of(arrays: GraphArrays) -> GraphArrays:
    """The constants that some layer reads as its weights, whether a network of ours has that layer or not.

    Args:
        arrays: What `read_frozen_graph` returned.

    Returns:
        Those constants, with all nodes; without a gamma that its batch normalization does not multiply with.
    """
    walk, used = _Walk(arrays), set()
    for node in arrays.nodes.values():
        if node.op in ("Conv2D", "MatMul", "BiasAdd", "BatchNormWithGlobalNormalization") or (
            node.op.startswith("FusedBatchNorm")
        ):
            last = len(node.inputs)
            # A gamma that is not used is no weight.
            if node.op.startswith("BatchNormWith") and not node.attributes.get(
                "scale_after_normalization"
            ):
                last -= 1
            used |= {walk.passed(name) for name in node.inputs[1:last]}
    kept = GraphArrays({name: array for name, array in arrays.items() if name in used})
    kept.nodes = arrays.nodes
    return kept
