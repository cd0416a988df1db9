# SPDX-License-Identifier: Apache-2.0
"""A frozen graph with the operations and names of Google's graph of 2015-12-05, and the weights of a model.

The names are those that torch-fidelity's `convert_inception_weights.py` lists of the real file.
"""

from __future__ import annotations

import keras
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import tensor_util

from inception_tf.arch import spec
from inception_tf.models import variant

NETWORK = variant("inception_v3", last_pool="max")


class Graph:
    """A GraphDef while nodes are added to it."""

    def __init__(self, model: keras.Model, *, flat: bool = True):
        self.weights = {weight.path: weight.numpy() for weight in model.weights}
        self.graph = graph_pb2.GraphDef()
        self.graph.versions.producer = 8  # before BatchNormWithGlobalNormalization was deprecated
        self.flat = flat  # one concatenation for a block with forks in its branches, as in 2015

    def add(self, name: str, op: str, *inputs: str, **attributes) -> str:
        node = self.graph.node.add(name=name, op=op, input=inputs)
        node.attr["T"].type = 1
        for key, value in attributes.items():
            if isinstance(value, str):
                node.attr[key].s = value.encode()
            elif isinstance(value, bool):
                node.attr[key].b = value
            elif isinstance(value, float):
                node.attr[key].f = value
            elif isinstance(value, int):
                node.attr[key].i = value
            else:
                node.attr[key].list.i.extend(value)
        return name

    def constant(self, name: str, value) -> str:
        node = self.graph.node.add(name=name, op="Const")
        tensor = tensor_util.make_tensor_proto(value)
        node.attr["dtype"].type = tensor.dtype
        node.attr["value"].tensor.CopyFrom(tensor)
        return name

    def convolution(self, name: str, step: spec.Conv, ours: str, x: str) -> str:
        kernel = self.constant(f"{name}/conv2d_params", self.weights[f"{ours}_conv/kernel"])
        x = self.add(
            f"{name}/Conv2D", "Conv2D", x, kernel,
            strides=[1, step.stride, step.stride, 1], padding=step.padding.upper(),
        )  # fmt: skip
        statistics = [
            self.constant(f"{name}/batchnorm/{kind}", self.weights[f"{ours}_bn/{kind}"])
            for kind in ("moving_mean", "moving_variance", "beta")
        ]
        ones = 0 * self.weights[f"{ours}_bn/beta"] + 1
        gamma = self.constant(f"{name}/batchnorm/gamma", ones)
        x = self.add(
            f"{name}/batchnorm", "BatchNormWithGlobalNormalization", x, *statistics, gamma,
            variance_epsilon=0.001, scale_after_normalization=False,
        )  # fmt: skip
        return self.add(
            name, "Relu", self.add(f"{name}/CheckNumerics", "CheckNumerics", x, message="")
        )

    def pool(self, name: str, step: spec.Pool, x: str) -> str:
        return self.add(
            name, {"max": "MaxPool", "avg": "AvgPool"}[step.kind], x,
            ksize=[1, *step.window, 1], strides=[1, step.stride, step.stride, 1],
            padding=step.padding.upper(),
        )  # fmt: skip

    def fork(
        self, scope: str, step: spec.Fork, ours: str, x: str, inner: bool = False
    ) -> list[str]:
        """The outputs of the branches of a fork."""
        ends, towers, alone = [], 0, 0
        for b, branch in enumerate(step.branches):
            if len(branch) == 1:
                if isinstance(branch[0], spec.Pool):
                    ends.append(self.pool(f"{scope}/pool", branch[0], x))
                else:
                    name = f"{scope}/conv" + (f"_{alone}" if alone else "")
                    ends.append(self.convolution(name, branch[0], f"{ours}_b{b}_0", x))
                    alone += 1
                continue
            tower = f"{scope}/tower" + (f"_{towers}" if towers else "")
            towers, convolutions, place = towers + 1, 0, x
            for s, one in enumerate(branch):
                where = f"{ours}_b{b}_{s}"
                if isinstance(one, spec.Fork):
                    outputs = self.fork(f"{tower}/mixed", one, where, place)
                    place = None
                    ends += outputs if self.flat else [self.concat(f"{tower}/mixed/join", outputs)]
                elif isinstance(one, spec.Pool):
                    place = self.pool(f"{tower}/pool", one, place)
                else:
                    name = f"{tower}/conv" + (f"_{convolutions}" if convolutions else "")
                    place = self.convolution(name, one, where, place)
                    convolutions += 1
            if place is not None:
                ends.append(place)
        return ends

    def concat(self, name: str, inputs: list[str]) -> str:
        axis = self.constant(f"{name}/concat_dim", 3)
        return self.add(name, "Concat", axis, *inputs, N=len(inputs))


def graph_2015(model: keras.Model, size: int = 299, *, flat: bool = True) -> graph_pb2.GraphDef:
    """The graph, from `images` to `softmax`.

    Args:
        model: (1, size, size, 3) → 1,008 logits, with `last_pool="max"`.
        size: Of its images, which decides the window of the global pool.
        flat: Concatenate a block's forks with its branches, as in 2015.
    """
    made = Graph(model, flat=flat)
    x = "images"
    node = made.graph.node.add(name=x, op="Placeholder")
    node.attr["dtype"].type = 1
    counts = {"conv": 0, "pool": 0, "mixed": 0}

    def numbered(kind: str) -> str:
        counts[kind] += 1
        return kind + (f"_{counts[kind] - 1}" if counts[kind] > 1 else "")

    for endpoint, step in NETWORK.backbone:
        if isinstance(step, spec.Conv):
            x = made.convolution(numbered("conv"), step, endpoint, x)
        elif isinstance(step, spec.Pool):
            x = made.pool(numbered("pool"), step, x)
        else:
            scope = numbered("mixed")
            x = made.concat(f"{scope}/join", made.fork(scope, step, endpoint, x))
            x = made.add(scope, "CheckNumerics", x, message="")
    side = model.get_layer("Mixed_7c").output.shape[1]
    x = made.add(
        "pool_3", "AvgPool", x, ksize=[1, side, side, 1], strides=[1, 1, 1, 1], padding="VALID"
    )
    shape = made.constant("pool_3/_reshape/shape", [-1, made.weights["Logits/kernel"].shape[0]])
    x = made.add("pool_3/_reshape", "Reshape", x, shape)
    x = made.add(
        "softmax/logits/MatMul",
        "MatMul",
        x,
        made.constant("softmax/weights", made.weights["Logits/kernel"]),
    )
    x = made.add(
        "softmax/logits", "BiasAdd", x, made.constant("softmax/biases", made.weights["Logits/bias"])
    )
    made.add("softmax", "Softmax", x)
    return made.graph
