# SPDX-License-Identifier: Apache-2.0
"""Which network a model is, known by its layers' names and not by its own."""

from __future__ import annotations

from collections.abc import Iterable

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import UserError
from inception_tf.models import NETWORKS

__all__ = ["network_of"]


def network_of(model, known: Iterable[str], project: str) -> Network:
    """The one of the networks `known` that `model` was built from; `UserError` if it is none of them.

    project: whose networks they are, for the sentence.
    """
    layers = {layer.name for layer in model.layers}
    fitting = {}
    for name in known:
        body = _layers(NETWORKS[name])
        if all((layer in layers) == expected for layer, expected in body.items()):
            fitting[len(body)] = NETWORKS[name]
    if fitting:
        return fitting[max(fitting)]
    raise UserError(
        f"model '{model.name}' is none of the networks of {project}; known: {', '.join(known)};"
        " create one of these"
    )


def _layers(network: Network) -> dict[str, bool]:
    """The layers that tell a network, and whether it has them or must not have them."""
    found = {}
    for name, step in network.backbone:
        for place in spec.iter_layers(name, step):
            if isinstance(place.step, spec.Conv):
                found[f"{place.name}_conv"] = True
                found[f"{place.name}_bn"] = network.batch_norm and not place.step.linear
    return found
