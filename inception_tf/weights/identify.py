# SPDX-License-Identifier: Apache-2.0
"""Identification of a model's network by the names of its layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import UserError
from inception_tf.models import NETWORKS

if TYPE_CHECKING:
    import keras

__all__ = ["identify_network", "network_of_layers"]


def identify_network(model: keras.Model, known: Iterable[str], project: str) -> Network:
    """The network that a model was built from, whatever the model's own name.

    Args:
        model: A model of this package.
        known: Names of the networks to choose from.
        project: str. Whose networks these are, for the error.

    Returns:
        The table.

    Raises:
        UserError: The model is none of these networks.
    """
    found = network_of_layers({layer.name for layer in model.layers}, known)
    if found:
        return found
    raise UserError(
        f"model '{model.name}' is not one of the networks of {project}; known: {', '.join(known)};"
        " create one of these"
    )


def network_of_layers(layers: Collection[str], known: Iterable[str]) -> Network | None:
    """The network that layers belong to.

    Args:
        layers: Our names of the layers of a model, or of those that a file has arrays for.
        known: Names of the networks to choose from.

    Returns:
        The largest network whose backbone is among the layers, or None.
    """
    fitting = {}
    for name in known:
        backbone = _layers(NETWORKS[name])
        if all((layer in layers) == expected for layer, expected in backbone.items()):
            fitting[len(backbone)] = NETWORKS[name]
    return fitting[max(fitting)] if fitting else None


def _layers(network: Network) -> dict[str, bool]:
    """Layer names that identify a network → whether it must have them or must not."""
    found = {}
    for name, step in network.backbone:
        for layer in spec.iter_layers(name, step):
            if isinstance(layer.step, spec.Conv):
                found[f"{layer.name}_conv"] = True
                found[f"{layer.name}_bn"] = network.batch_norm and not layer.step.has_bias
    return found
