# SPDX-License-Identifier: Apache-2.0
"""The `.h5` files of `keras.applications`: a group a layer, as Keras 1 and 2 wrote them."""

from __future__ import annotations

import os

import numpy as np

from inception_tf.errors import UserError
from inception_tf.weights import keras_applications
from inception_tf.weights.identity import network_of
from inception_tf.weights.keras_applications import names

__all__ = ["is_legacy", "names", "open_file", "read"]

WHOLE_MODEL = "model_weights"  # the group of the weights where the file holds a whole model
LAYERS, WEIGHTS = "layer_names", "weight_names"  # attributes


def is_legacy(path: str) -> bool:
    """Whether a file is of this form."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return LAYERS in file.get(WHOLE_MODEL, file).attrs
    except OSError:
        return False


def read(path: str) -> dict[str, np.ndarray]:
    """`{"conv2d_12/kernel": array}`, each under its layer's name whatever the file calls it inside."""
    import h5py

    if not os.path.isfile(path):
        raise UserError(f"no weights file at '{path}'; give the .h5 file of keras.applications")
    try:
        with h5py.File(path, "r") as file:
            root = file.get(WHOLE_MODEL, file)
            return {
                f"{_text(layer)}/{_kind(weight)}": root[_text(layer)][_text(weight)][()]
                for layer in root.attrs[LAYERS]
                for weight in root[_text(layer)].attrs[WEIGHTS]
            }
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"'{path}' is damaged or no .h5 file of keras.applications; give a complete one"
        ) from error


def _text(name) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _kind(weight) -> str:
    """`conv2d_1/kernel:0` → `kernel`."""
    return _text(weight).rsplit("/", 1)[-1].split(":")[0]


def open_file(model, path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file and their names, as `mapping.fill` takes them."""
    network = network_of(model, keras_applications.NETWORKS_OF_KERAS, "keras.applications")
    arrays = read(path)
    return arrays, names(network, arrays)
