# SPDX-License-Identifier: Apache-2.0
"""All the sources of weights by the name that a user gives."""

from __future__ import annotations

from inception_tf.errors import UserError
from inception_tf.weights.formats import keras_h5, native, state_dict, tf1_checkpoint
from inception_tf.weights.identify import network_of
from inception_tf.weights.names import bvlc, keras_applications, slim, torch
from inception_tf.weights.source import WeightsFile, WeightSource

__all__ = ["FOREIGN", "OWN", "SOURCES", "check_ema"]

OWN = "own"  # this project's files


def _slim_names(network, arrays, ema: bool) -> dict[str, str]:
    names = slim.names(network)
    return tf1_checkpoint.averaged(names) if ema else names


def _slim_file(path: str, ema: bool) -> WeightsFile:
    arrays = tf1_checkpoint.read(path, ema)
    left = tf1_checkpoint.set_aside(path, ema)
    return WeightsFile(arrays, left, tf1_checkpoint.choice(ema, left))


def _slim_variants(name: str):
    return slim.NETWORKS_OF_SLIM[name].variants if name in slim.NETWORKS_OF_SLIM else ()


_TORCH = WeightSource(
    read=lambda path, ema: WeightsFile(state_dict.read(path)),
    network_of=lambda model: network_of(model, torch.NETWORKS_OF_TORCH, "torchvision and timm"),
    names=lambda network, arrays, ema: torch.names(network, arrays),
    notes=torch.padding_note,
)

SOURCES: dict[str, WeightSource] = {
    OWN: WeightSource(
        read=lambda path, ema: WeightsFile(native.read(path)),
        network_of=lambda model: model,  # its layers' names are the file's
        names=lambda model, arrays, ema: native.names(model, arrays),
    ),
    "slim": WeightSource(
        read=_slim_file,
        network_of=slim.network_of,
        names=_slim_names,
        variants=_slim_variants,
        has_averages=True,
    ),
    "keras": WeightSource(
        read=lambda path, ema: WeightsFile(keras_h5.read(path)),
        network_of=lambda model: network_of(
            model, keras_applications.NETWORKS_OF_KERAS, "keras.applications"
        ),
        names=lambda network, arrays, ema: keras_applications.names(network, arrays),
    ),
    "torchvision": _TORCH,
    "timm": _TORCH,
    "bvlc": WeightSource(
        read=lambda path, ema: WeightsFile(bvlc.read(path)),
        network_of=lambda model: network_of(model, bvlc.NETWORKS_OF_BVLC, "BVLC"),
        names=lambda network, arrays, ema: bvlc.names(network, arrays),
    ),
}
FOREIGN = tuple(name for name in SOURCES if name != OWN)


def check_ema(ema: bool, source: str) -> None:
    """Raises `UserError` where moving averages are asked of a file that has none of its own."""
    if ema and not SOURCES[source].has_averages:
        having = " and ".join(name for name, one in SOURCES.items() if one.has_averages)
        raise UserError(
            f"only {having}'s checkpoints keep moving averages beside the weights; leave out ema for a"
            f" file of '{source}'"
        )
