# SPDX-License-Identifier: Apache-2.0
"""Layer names of `keras.applications`' Inception networks: numbers in order of creation, which is the table's order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import unknown
from inception_tf.nn.network import LOGITS

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["NETWORKS_OF_KERAS", "keras_arrays", "keras_names"]

# Network → our layer → Keras' layer, where Keras names it instead of numbering it.
NETWORKS_OF_KERAS: dict[str, dict[str, str]] = {
    "inception_v3": {},
    "inception_resnet_v2": {"Conv2d_7b_1x1": "conv_7b", "PreAuxLogits_up": "block17_20_conv"},
}
HEAD = "predictions"
KINDS = {  # the stem of a layer's name → the end of our layer's name, its variables
    "conv2d": ("conv", ("kernel",)),
    "batch_normalization": ("bn", ("gamma", "beta", "moving_mean", "moving_variance")),
}


def keras_arrays(keras_model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a model of `keras.applications`.

    Args:
        keras_model: The model.

    Returns:
        Keras' variable path, such as `conv2d_12/kernel` → array.
    """
    return {variable.path: variable.numpy() for variable in keras_model.weights}


def keras_names(network: Network, paths: Iterable[str]) -> dict[str, str]:
    """The names of a network's variables in one instance or file of `keras.applications`.

    Keras numbers the layers of a whole session, so that the numbers differ between instances, but in
    sorted order they follow our table.  Keras has no auxiliary classifier.

    Args:
        network: The network.
        paths: The instance's variable paths, such as `conv2d_12/kernel`.

    Returns:
        Our variable path → Keras' path.

    Raises:
        UserError: `keras.applications` has no such network.
    """
    if network.name not in NETWORKS_OF_KERAS:
        raise unknown("network of keras.applications", network.name, NETWORKS_OF_KERAS)
    paths = list(paths)
    named = NETWORKS_OF_KERAS[network.name]
    found = {f"{LOGITS}/{kind}": f"{HEAD}/{kind}" for kind in ("kernel", "bias")}
    convolutions = []  # our names of the numbered layers
    for name, step in network.backbone:
        for layer in spec.iter_layers(name, step):
            if layer.step is spec.UP:  # Block35_1_up → block35_1_conv
                theirs = named.get(layer.name, f"{name.lower()}_conv")
                found |= {f"{layer.name}_conv/{k}": f"{theirs}/{k}" for k in ("kernel", "bias")}
            elif layer.name in named:
                theirs = named[layer.name]
                for end, variables in KINDS.values():
                    suffix = "_bn" if end == "bn" else ""
                    found |= {f"{layer.name}_{end}/{k}": f"{theirs}{suffix}/{k}" for k in variables}
            elif isinstance(layer.step, spec.Conv):
                convolutions.append(layer.name)
    layers = {path.split("/")[0] for path in paths}
    for stem, (end, variables) in KINDS.items():
        numbered = sorted(
            (_number(theirs, stem), theirs) for theirs in layers if _is_numbered(theirs, stem)
        )
        # Another number of layers shows up later, as missing or unused arrays.
        for ours, (_, theirs) in zip(convolutions, numbered, strict=False):
            found |= {f"{ours}_{end}/{kind}": f"{theirs}/{kind}" for kind in variables}
    complete = all(any(_is_numbered(one, stem) for one in layers) for stem in KINDS)
    if not complete or len(convolutions) > len(
        [one for one in layers if _is_numbered(one, "conv2d")]
    ):
        return found
    # What is left after a complete backbone belongs to a classifier of the user's.
    known = set(found.values())
    return found | {f"{LOGITS}/{path}": path for path in paths if path not in known}


def _is_numbered(layer: str, stem: str) -> bool:
    return re.fullmatch(rf"{stem}(_\d+)?", layer) is not None


def _number(layer: str, stem: str) -> int:
    return int(layer.removeprefix(stem).removeprefix("_") or 0)
