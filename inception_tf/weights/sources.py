# SPDX-License-Identifier: Apache-2.0
"""The sources of weights by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.arch.spec import Network
from inception_tf.errors import UserError
from inception_tf.models import NETWORKS
from inception_tf.weights.formats import frozen_graph, keras_h5, native, state_dict, tf1_checkpoint
from inception_tf.weights.identify import identify_network, network_of_layers
from inception_tf.weights.names import bvlc, graph, keras_applications, slim, torch
from inception_tf.weights.source import WeightsFile, WeightSource
from inception_tf.weights.transfer import MisfitError

if TYPE_CHECKING:
    import keras

__all__ = ["FOREIGN", "NATIVE", "SOURCES", "check_ema", "check_network"]

NATIVE = "native"  # this project's files


def _slim_names(network: Network, arrays: Mapping[str, np.ndarray], ema: bool) -> dict[str, str]:
    # A file may have gammas, whether the model has them or not.
    names = slim.slim_names(dataclasses.replace(network, batch_norm_scale=True))
    return tf1_checkpoint.ema_names(names) if ema else names


def _slim_file(path: str, ema: bool, wanted: Container[str], limit: int) -> WeightsFile:
    arrays = tf1_checkpoint.read_tf1_checkpoint(path, ema, wanted)
    skipped = tf1_checkpoint.training_state(path, ema)
    return WeightsFile(arrays, skipped, tf1_checkpoint.ema_note(ema, skipped))


def _slim_variants(name: str, arrays: Mapping[str, np.ndarray]) -> Sequence[Mapping[str, Any]]:
    return slim.NETWORKS_OF_SLIM[name].variants if name in slim.NETWORKS_OF_SLIM else ({},)


def _graph_file(path: str, ema: bool, wanted: Container[str], limit: int) -> WeightsFile:
    arrays = graph.weights_of(frozen_graph.read_frozen_graph(path, wanted, limit))
    return WeightsFile(arrays, notes=("found by the structure of the graph, not by names",))


def _torch_file(path: str, ema: bool, wanted: Container[str], limit: int) -> WeightsFile:
    state, found = state_dict.read_torch_file(path, wanted, ema)
    counters = tuple(name for name in state if name.endswith(torch.COUNTER))
    arrays = {name: array for name, array in state.items() if name not in counters}
    return WeightsFile(arrays, (*counters, *found.skipped), found.notes)


_TORCH = WeightSource(
    read=_torch_file,
    identify=lambda model: identify_network(model, torch.NETWORKS_OF_TORCH, "torchvision and timm"),
    map_names=lambda network, arrays, ema: torch.torch_names(network, arrays),
    variants=torch.torch_variants,
    same_arrays=True,
    has_ema=True,
)

SOURCES: dict[str, WeightSource] = {
    NATIVE: WeightSource(
        read=lambda path, ema, wanted, limit: WeightsFile(native.read_native(path, wanted, limit)),
        identify=lambda model: model,  # the file has the names of its layers
        map_names=lambda model, arrays, ema: native.native_names(model, arrays),
    ),
    "slim": WeightSource(
        read=_slim_file,
        identify=slim.identify_slim_network,
        map_names=_slim_names,
        variants=_slim_variants,
        has_ema=True,
    ),
    "keras": WeightSource(
        read=lambda path, ema, wanted, limit: WeightsFile(
            keras_h5.read_keras_h5(path, wanted, limit)
        ),
        identify=lambda model: identify_network(
            model, keras_applications.NETWORKS_OF_KERAS, "keras.applications"
        ),
        map_names=lambda network, arrays, ema: keras_applications.keras_names(network, arrays),
    ),
    "torchvision": _TORCH,
    "timm": _TORCH,
    "bvlc": WeightSource(
        read=lambda path, ema, wanted, limit: WeightsFile(bvlc.read_bvlc(path, wanted, limit)),
        identify=lambda model: identify_network(model, bvlc.NETWORKS_OF_BVLC, "BVLC"),
        map_names=lambda network, arrays, ema: bvlc.bvlc_names(network),
    ),
    "graph": WeightSource(
        read=_graph_file,
        identify=lambda model: identify_network(model, graph.NETWORKS_OF_GRAPHS, "frozen graphs"),
        map_names=graph.graph_names,
        variants=lambda name, arrays: graph.NETWORKS_OF_GRAPHS.get(name, ({},)),
    ),
}
FOREIGN = tuple(name for name in SOURCES if name != NATIVE)


def check_network(
    error: MisfitError, model: keras.Model, source: str, path: str, arrays: Collection[str]
) -> None:
    """Check that a file that does not fit a model is not of another network.

    Args:
        error: Why it does not fit.
        model: The model.
        source: str. A key of `SOURCES`.
        path: str. The file.
        arrays: Names of its arrays.

    Raises:
        UserError: It is; the error names both networks, and its cause is `error`.
    """
    ours = network_of_layers({layer.name for layer in model.layers}, NETWORKS)
    theirs = _network_of_file(source, arrays)
    if theirs is None or theirs == ours:
        return
    other = f"is {ours.name}" if ours else "is another network"
    raise UserError(
        f"'{path}' is a file of {theirs.name}, and the model '{model.name}' {other}; nothing was loaded: create"
        f" {theirs.name}, or give a file of this network"
    ) from error


def _network_of_file(source: str, arrays: Collection[str]) -> Network | None:
    if source == NATIVE:
        return network_of_layers({name.split("/")[0] for name in arrays}, NETWORKS)
    placeholders = dict.fromkeys(arrays, np.empty(0))
    for ema in (False, True) if SOURCES[source].has_ema else (False,):
        for name, network in NETWORKS.items():
            try:
                names = SOURCES[source].map_names(network, placeholders, ema)
            except UserError:  # no network of this project
                continue
            layers = {path.split("/")[0] for path, theirs in names.items() if theirs in arrays}
            if found := network_of_layers(layers, [name]):
                return found
    return None


def check_ema(ema: bool, source: str) -> None:
    """Check that the files of a source have moving averages if these are to be read.

    Args:
        ema: bool. Whether to read the moving averages.
        source: str. A key of `SOURCES`.

    Raises:
        UserError: The source has no moving averages.
    """
    if ema and not SOURCES[source].has_ema:
        having = ", ".join(name for name, one in SOURCES.items() if one.has_ema)
        raise UserError(
            f"only checkpoints of {having} have moving averages beside the weights; omit ema for a"
            f" file of '{source}'"
        )
