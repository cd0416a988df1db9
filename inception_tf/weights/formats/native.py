# SPDX-License-Identifier: Apache-2.0
"""This project's weight files, `.weights.h5`, `.keras` and `.h5`, read by layer name.

Keras itself matches layers by class and order, so that two swapped branches of equal shapes load into
each other without an error.  It does store the layers' names, and those are used here.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from inception_tf.errors import UserError

if TYPE_CHECKING:
    import h5py
    import keras

__all__ = ["layer_names", "locate_hdf5", "native_names", "read_native", "whole_model_layers"]

# Of `model.save("x.h5")`: the group of the weights, and the attributes with the names.
WHOLE_MODEL, LAYERS, WEIGHTS = "model_weights", "layer_names", "weight_names"
WEIGHTS_IN_KERAS_FILE = "model.weights.h5"

# Where Keras 3 stores a layer's variables; optimizer, metrics and seeds are elsewhere.
LAYER = re.compile(r"(.*/)?layers/[^/]+/vars")


def read_native(path: str) -> dict[str, np.ndarray]:
    """The weights of a file that Keras 3 wrote, by layer name.

    Args:
        path: str. A `.weights.h5` or `.keras` file, or an `.h5` file of `model.save`.

    Returns:
        Layer and number of the variable in it, such as `Mixed_5b_b1_0_conv/0` → array.

    Raises:
        UserError: The file is missing, damaged or without layer names, or a name occurs twice.
    """
    import h5py

    if not os.path.exists(path):
        raise UserError(f"no weights file at '{path}'; give a .weights.h5 or .keras file")
    if os.path.isdir(path):
        raise UserError(f"'{path}' is a folder; give a .weights.h5 or .keras file in it")
    try:
        with h5py.File(locate_hdf5(path), "r") as file:
            layers = _layers(file)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"'{path}' is damaged or not a Keras file; give a complete .weights.h5 or .keras file"
        ) from error
    if not layers:
        raise UserError(
            f"'{path}' has no layer names, which Keras 3 writes; save the model again with"
            " model.save_weights or model.save"
        )
    twice = [name for name, count in Counter(name for name, _ in layers).items() if count > 1]
    if twice:
        raise UserError(
            f"'{path}' has several layers called '{twice[0]}'; give the file of one network alone"
        )
    return {
        f"{layer}/{number}": array for layer, arrays in layers for number, array in arrays.items()
    }


def locate_hdf5(path: str) -> str | io.BytesIO:
    """The HDF5 content of a weights file, as `h5py.File` accepts it.

    Args:
        path: str. An HDF5 or `.keras` file.

    Returns:
        The path itself, or the weights inside a `.keras` archive.
    """
    if not path.endswith(".keras"):
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(WEIGHTS_IN_KERAS_FILE))


def layer_names(file: h5py.File) -> list[str]:
    """The names of the layers that have variables in a file of Keras 3.

    Args:
        file: The open file.

    Returns:
        Names in the order of the file.
    """
    return [group.attrs["name"] for group in _groups(file)]


def _layers(file: h5py.File) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Name and numbered variables of each layer that has both."""
    if whole := whole_model_layers(file):
        return [
            (layer, {str(number): _array(one) for number, one in enumerate(weights.values())})
            for layer, weights in whole.items()
            if weights
        ]
    return [
        (group.attrs["name"], {number: _array(dataset) for number, dataset in group.items()})
        for group in _groups(file)
    ]


def whole_model_layers(file: h5py.File) -> dict[str, dict[str, h5py.Dataset]]:
    """The variables in the format of Keras 1 and 2, which Keras 3 writes for `model.save("x.h5")`.

    Args:
        file: The open file.

    Returns:
        Layer → name such as `conv2d_1/kernel:0` → dataset, both in the order of the file; nothing for a
        file of another format.
    """
    root = file.get(WHOLE_MODEL, file)
    return {
        _text(layer): {
            _text(weight): root[_text(layer)][_text(weight)]
            for weight in root[_text(layer)].attrs[WEIGHTS]
        }
        for layer in root.attrs.get(LAYERS, ())
    }


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _groups(file: h5py.File) -> list[h5py.Group]:
    groups: list[h5py.Group] = []
    file.visititems(lambda path, item: groups.append(item) if LAYER.fullmatch(path) else None)
    return [group for group in groups if "name" in group.attrs and len(group)]


def _array(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.attrs.get("dtype") != "bfloat16":
        return dataset[()]
    import ml_dtypes

    return np.array(dataset, dtype=ml_dtypes.bfloat16)  # two opaque bytes in HDF5


def native_names(model: keras.Model, theirs: Iterable[str]) -> dict[str, str]:
    """The names of a model's variables in a file of Keras 3.

    Args:
        model: The model.
        theirs: Names of the file's arrays, as `read_native` returns them.

    Returns:
        Variable path → the file's name; arrays without a layer in the model keep the file's name.
    """
    ours = {
        f"{layer.name}/{number}": variable.path
        for layer in model.layers
        for number, variable in enumerate(layer.weights)
    }
    return {ours.get(name, name): name for name in theirs}
