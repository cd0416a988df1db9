# SPDX-License-Identifier: Apache-2.0
"""Starting a training from existing weights, adapted to this package's input range."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from inception_tf.data.preprocessing import SCALES, Preprocessing, Scale
from inception_tf.errors import UserError
from inception_tf.models import find_network
from inception_tf.weights.convert import check_layers, read_foreign_weights
from inception_tf.weights.detect import check_weights_path, detect_source
from inception_tf.weights.download import fetch_release
from inception_tf.weights.hub import local_file
from inception_tf.weights.limits import model_limit
from inception_tf.weights.load import load_weights
from inception_tf.weights.metadata import layer_arguments, read_metadata, stored_metadata
from inception_tf.weights.registry import check_release_name, find_release, release_names
from inception_tf.weights.sources import NATIVE, SOURCES

__all__ = ["load_pretrained", "preprocessing_of_weights", "take_unit_scale"]


def load_pretrained(
    model: keras.Model, network: str, weights: str, structure: dict, *, new_head: bool
) -> None:
    """Loads a file or a release into a network, and adapts it to images in [-1, 1].

    Args:
        model: the network, left as it was where the weights do not fit.
        network: its name.
        weights: a file as `load_weights` accepts it, or a release's name.
        structure: the switches, the activation and the width that `model` was built with.
        new_head: leave the classifiers at their initialization.

    Raises:
        UserError: there are no such weights, or they do not fit the network or its switches.
    """
    check_release_name(network, weights)
    switches = layer_arguments(structure)[1]
    if weights in release_names(network):
        release = find_release(network, weights)
        _check_switches(network, weights, release.switches, switches)
        scale, path = release.preprocessing.scale, str(fetch_release(release))
        load_weights(model, path, skip_head=new_head)
    else:
        scale = _fill_from_file(model, network, weights, structure, new_head)
    take_unit_scale(model, SCALES[scale])


def preprocessing_of_weights(network: str, weights: str) -> Preprocessing | None:
    """How the makers of weights prepare images.

    Args:
        network: the name of the network.
        weights: a file as `load_weights` accepts it, or a release's name.

    Returns:
        The preprocessing; None where nothing is known of it.

    Raises:
        UserError: the file is missing, or of no known format.
    """
    check_release_name(network, weights)
    if weights in release_names(network):
        return find_release(network, weights).preprocessing
    path = local_file(weights)
    check_weights_path(path)
    source = detect_source(path, SOURCES)
    if source == NATIVE:
        return stored_metadata(path).preprocessing
    return read_foreign_weights(network, source, weights).preprocessing


def _fill_from_file(
    model: keras.Model, network: str, path: str, structure: dict, new_head: bool
) -> str:
    """Loads `model` from a file, which is read once, and returns the name of its input scale."""
    switches = layer_arguments(structure)[1]
    address, path = path, local_file(path)
    check_weights_path(path)
    source = detect_source(path, SOURCES, model_limit(model))
    if source == NATIVE:
        stored = read_metadata(path)
        layers, theirs = layer_arguments(stored.switches)
        check_layers(path, find_network(network), layers, structure, "add --set model.{}={}")
        _check_switches(network, path, theirs, switches)
        load_weights(model, path, skip_head=new_head)
        return stored.preprocessing.scale if stored.preprocessing else "unit"
    found = read_foreign_weights(network, source, address)
    _check_switches(network, path, found.switches, switches)
    found.assign(model, skip_head=new_head)
    return found.preprocessing.scale


def _check_switches(network: str, weights: str, theirs: Mapping, switches: dict) -> None:
    wrong = {k: value for k, value in theirs.items() if k not in switches or switches[k] != value}
    if wrong:
        trained = " and ".join(f"{switch}={value}" for switch, value in wrong.items())
        needed = ", ".join(
            f"{k}: {str(value).lower()}" for k, value in {**switches, **wrong}.items()
        )
        raise UserError(
            f"{weights} was trained with {trained} of {network}; add"
            f" --set 'model.switches={{{needed}}}'"
        )


def take_unit_scale(model: keras.Model, scale: Scale) -> None:
    """Changes the first convolution so that images in [-1, 1] give what images on `scale` gave before.

    Exact except at the border, where the convolution pads with zeros: they meant the mean before, and the
    middle of the range now.

    Args:
        model: the network, changed in place.
        scale: the input scale that its weights were trained with.
    """
    if scale == SCALES["unit"]:
        return
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    kernel = keras.ops.convert_to_numpy(first.kernel).astype("float64")
    mean, deviation = (
        np.broadcast_to(np.float64(x), 3)[:, None] for x in (scale.mean, scale.deviation)
    )
    unit = SCALES["unit"]
    # (pixel - mean) / deviation with pixel = unit.deviation * x + unit.mean
    shift = (kernel * ((unit.mean - mean) / deviation)).sum((0, 1, 2))
    kernel = kernel * (unit.deviation / deviation)
    first.kernel.assign(kernel[:, :, ::-1] if scale.bgr else kernel)
    if first.use_bias:
        first.bias.assign(keras.ops.convert_to_numpy(first.bias) + shift)
        return
    norm = model.get_layer(first.name.replace("_conv", "_bn"))
    norm.moving_mean.assign(keras.ops.convert_to_numpy(norm.moving_mean) - shift)
