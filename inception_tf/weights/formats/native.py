# SPDX-License-Identifier: Apache-2.0
"""This project's own files, `.weights.h5` and `.keras`, read by the layers' names.

Keras itself matches layers by class and order: two branches of equal shapes that swapped places
load into each other without a word.  It writes each layer's name beside the weights, though, and
the names decide here.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections import Counter

import numpy as np

from inception_tf.errors import UserError

__all__ = ["layer_names", "names", "read", "weights_of"]

WEIGHTS_IN_KERAS_FILE = "model.weights.h5"

# Where Keras 3 keeps a layer's variables; optimizer, metrics and seeds lie elsewhere.
LAYER = re.compile(r"(.*/)?layers/[^/]+/vars")


def read(path: str) -> dict[str, np.ndarray]:
    """`{"Mixed_5b_b1_0_conv/0": array}`: the layer's name and the variable's number in it."""
    import h5py

    if not os.path.exists(path):
        raise UserError(f"no weights file at '{path}'; give a .weights.h5 or .keras file")
    if os.path.isdir(path):
        raise UserError(f"'{path}' is a folder; give a .weights.h5 or .keras file in it")
    try:
        with h5py.File(weights_of(path), "r") as file:
            layers = _layers(file)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"'{path}' is damaged or no Keras file; give a complete .weights.h5 or .keras file"
        ) from error
    if not layers:
        raise UserError(
            f"'{path}' holds no layers with names, as Keras 3 writes them; save the model again with"
            " model.save_weights or model.save"
        )
    twice = [name for name, count in Counter(name for name, _ in layers).items() if count > 1]
    if twice:
        raise UserError(
            f"'{path}' holds several layers of the name '{twice[0]}'; give the file of one network alone"
        )
    return {
        f"{layer}/{number}": array for layer, arrays in layers for number, array in arrays.items()
    }


def weights_of(path: str):
    """What h5py opens: the file itself, or the weights inside a `.keras` archive."""
    if not path.endswith(".keras"):
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(WEIGHTS_IN_KERAS_FILE))


def layer_names(file) -> list[str]:
    """Names of the layers that an open HDF5 file of Keras 3 has variables of."""
    return [group.attrs["name"] for group in _groups(file)]


def _layers(file) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Name and numbered variables of each layer that has both."""
    return [
        (group.attrs["name"], {number: _array(dataset) for number, dataset in group.items()})
        for group in _groups(file)
    ]


def _groups(file) -> list:
    groups = []
    file.visititems(lambda path, item: groups.append(item) if LAYER.fullmatch(path) else None)
    return [group for group in groups if "name" in group.attrs and len(group)]


def _array(dataset) -> np.ndarray:
    if dataset.attrs.get("dtype") != "bfloat16":
        return dataset[()]
    import ml_dtypes

    return np.array(dataset, dtype=ml_dtypes.bfloat16)  # HDF5 sees two opaque bytes


def names(model, theirs) -> dict[str, str]:
    """Our variable path → the file's name; what the model has no layer for keeps the file's name."""
    ours = {
        f"{layer.name}/{number}": variable.path
        for layer in model.layers
        for number, variable in enumerate(layer.weights)
    }
    return {ours.get(name, name): name for name in theirs}
