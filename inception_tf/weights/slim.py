# SPDX-License-Identifier: Apache-2.0
"""slim's names as a function of position, and its TF1 checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from inception_tf import spec
from inception_tf.errors import UserError, unknown
from inception_tf.models import NETWORKS
from inception_tf.models.build import LOGITS
from inception_tf.spec import Network, Place

__all__ = ["names", "network_of", "open_file", "read"]


@dataclass(frozen=True)
class Slim:
    """What position does not say of one network in slim."""

    scope: str
    logits: str
    auxiliary_logits: str = ""
    misprints: Mapping[str, str] = field(default_factory=dict)  # our place → slim's layer


NETWORKS_OF_SLIM = {
    "inception_v1": Slim(
        scope="InceptionV1",
        logits="Logits/Conv2d_0c_1x1",
        misprints={"Mixed_5b_b2_1": "Conv2d_0a_3x3"},  # the second of its branch
    ),
    "inception_v3": Slim(
        scope="InceptionV3",
        logits="Logits/Conv2d_1c_1x1",
        auxiliary_logits="AuxLogits/Conv2d_2b_1x1",
        misprints={
            "Mixed_5c_b1_0": "Conv2d_0b_1x1",
            "Mixed_5c_b1_1": "Conv_1_0c_5x5",
            "Mixed_6a_b0_0": "Conv2d_1a_1x1",  # 3x3
            "Mixed_6a_b1_2": "Conv2d_1a_1x1",  # 3x3
            "Mixed_7b_b1_1_b1_0": "Conv2d_0b_3x1",  # 0c, as in Mixed_7c
        },
    ),
}

BATCH_NORM = ("beta", "moving_mean", "moving_variance")

# Last parts of the names to read; optimizer slots, moving averages and the step end otherwise.
KINDS = {"weights", "biases", *BATCH_NORM}


def names(network: Network, aux_logits: bool = True) -> dict[str, str]:
    """Our variable path → slim's variable name, in the order in which slim creates them."""
    if network.name not in NETWORKS_OF_SLIM:
        raise unknown("network of slim", network.name, NETWORKS_OF_SLIM)
    slim = NETWORKS_OF_SLIM[network.name]
    found = {}
    for name, step in network.body:
        for place, layer in _convolutions(name, step, slim):
            found |= _convolution(place.name, f"{slim.scope}/{layer}")
    if aux_logits:
        for auxiliary in network.auxiliaries:
            for name, step in auxiliary.steps:
                if isinstance(step, spec.Conv):
                    layer = f"{slim.scope}/{auxiliary.name}/{name}"
                    found |= _convolution(f"{auxiliary.name}_{name}", layer)
            found |= _dense(auxiliary.name, f"{slim.scope}/{slim.auxiliary_logits}")
    return found | _dense(LOGITS, f"{slim.scope}/{slim.logits}")


def _convolutions(name: str, step: spec.Step, slim: Slim) -> Iterator[tuple[Place, str]]:
    """`Mixed_5b/Branch_1/Conv2d_0b_5x5`: strides so far, letter by order since then, kernel."""
    at = (None, 0, 0)  # branch, strides so far, steps since
    for place in spec.walk(name, step):
        layer = name
        if place.path:
            branch, strides, since = at if at[0] == place.path[0] else (place.path[0], 0, 0)
            if place.step.stride > 1:
                strides, since = strides + 1, 0
            at = (branch, strides, since + 1)
            height, width = place.step.window
            layer = f"Conv2d_{strides}{'abcdefgh'[since]}_{height}x{width}"
            layer = f"{name}/Branch_{branch}/{slim.misprints.get(place.name, layer)}"
        if isinstance(place.step, spec.Conv):
            yield place, layer


def _convolution(place: str, layer: str) -> dict[str, str]:
    return {f"{place}_conv/kernel": f"{layer}/weights"} | {
        f"{place}_bn/{kind}": f"{layer}/BatchNorm/{kind}" for kind in BATCH_NORM
    }


def _dense(name: str, layer: str) -> dict[str, str]:
    return {f"{name}/kernel": f"{layer}/weights", f"{name}/bias": f"{layer}/biases"}


def network_of(model) -> Network:
    """The network of slim that `model` was built from, known by its layers' names."""
    layers = {layer.name for layer in model.layers}
    for name in NETWORKS_OF_SLIM:
        paths = names(NETWORKS[name], aux_logits=False)
        if {path.split("/")[0] for path in paths} - {LOGITS} <= layers:
            return NETWORKS[name]
    raise UserError(
        f"model '{model.name}' is none of slim's networks; known: {', '.join(NETWORKS_OF_SLIM)};"
        " create one of these"
    )


def read(path: str) -> dict[str, np.ndarray]:
    """`{"InceptionV3/Conv2d_1a_3x3/weights": array}` of a TF1 checkpoint, weights only."""
    import tensorflow as tf

    if not (os.path.isfile(path) or os.path.isfile(f"{path}.index")):
        raise UserError(
            f"no checkpoint at '{path}'; give its name without .index or .data-00000-of-00001"
        )
    try:
        checkpoint = tf.train.load_checkpoint(path)
        kept = [
            name
            for name in sorted(checkpoint.get_variable_to_shape_map())
            if name.rsplit("/", 1)[-1] in KINDS
        ]
        return {name: checkpoint.get_tensor(name) for name in kept}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(
            f"'{path}' is no readable TensorFlow checkpoint; give the name of a complete one,"
            " without .index or .data-00000-of-00001"
        ) from error


def open_file(model, path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a checkpoint and their names, as `mapping.fill` takes them."""
    known = names(network_of(model))
    return read(path), known
