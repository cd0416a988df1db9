# SPDX-License-Identifier: Apache-2.0
"""The names of `keras.applications`' Inceptions: numbers by order of creation, which is the table's order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import unknown
from inception_tf.nn.network import LOGITS

__all__ = ["arrays", "names"]

# Network → our place → the layer that Keras names instead of numbering it.
NETWORKS_OF_KERAS = {
    "inception_v3": {},
    "inception_resnet_v2": {"Conv2d_7b_1x1": "conv_7b", "PreAuxLogits_up": "block17_20_conv"},
}
HEAD = "predictions"
KINDS = {  # the stem of a layer's name → the end of our layer's name, its variables
    "conv2d": ("conv", ("kernel",)),
    "batch_normalization": ("bn", ("beta", "moving_mean", "moving_variance")),
}


def arrays(keras_model) -> dict[str, np.ndarray]:
    """`{"conv2d_12/kernel": array}` of a model of `keras.applications`."""
    return {variable.path: variable.numpy() for variable in keras_model.weights}


def names(network: Network, theirs: Iterable[str] | Mapping) -> dict[str, str]:
    """Our variable path → Keras' name, from the names that one instance has.

    Keras numbers the layers of a whole session, so that the numbers differ from instance to
    instance: sorted, they stand in the order of our table.  Keras has no auxiliary classifier.
    """
    if network.name not in NETWORKS_OF_KERAS:
        raise unknown("network of keras.applications", network.name, NETWORKS_OF_KERAS)
    named = NETWORKS_OF_KERAS[network.name]
    found = {f"{LOGITS}/{kind}": f"{HEAD}/{kind}" for kind in ("kernel", "bias")}
    places = []  # of the numbered layers
    for name, step in network.backbone:
        for place in spec.iter_layers(name, step):
            if place.step is spec.UP:  # Block35_1_up → block35_1_conv
                layer = named.get(place.name, f"{name.lower()}_conv")
                found |= {f"{place.name}_conv/{k}": f"{layer}/{k}" for k in ("kernel", "bias")}
            elif place.name in named:
                layer = named[place.name]
                for end, variables in KINDS.values():
                    suffix = "_bn" if end == "bn" else ""
                    found |= {f"{place.name}_{end}/{k}": f"{layer}{suffix}/{k}" for k in variables}
            elif isinstance(place.step, spec.Conv):
                places.append(place.name)
    layers = {path.split("/")[0] for path in theirs}
    for stem, (end, variables) in KINDS.items():
        numbered = sorted((_number(layer, stem), layer) for layer in layers if _is(layer, stem))
        # A network of another length is told by what stays missing or unused, not here.
        for place, (_, layer) in zip(places, numbered, strict=False):
            found |= {f"{place}_{end}/{kind}": f"{layer}/{kind}" for kind in variables}
    return found


def _is(layer: str, stem: str) -> bool:
    return re.fullmatch(rf"{stem}(_\d+)?", layer) is not None


def _number(layer: str, stem: str) -> int:
    return int(layer.removeprefix(stem).removeprefix("_") or 0)
