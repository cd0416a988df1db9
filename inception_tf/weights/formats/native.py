# SPDX-License-Identifier: Apache-2.0
"""This project's weight files, `.weights.h5`, `.keras` and `.h5`, read by layer name.

Keras itself matches layers by class and order, so that two swapped branches of equal shapes load into
each other without an error.  It does store the layers' names, and those are used here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.files import check_content
from inception_tf.weights.formats import hdf5
from inception_tf.weights.formats.stored import (
    NOTHING,
    StoredArray,
    damage_is,
    read_wanted,
    shown_name,
)

if TYPE_CHECKING:
    import h5py
    import keras

__all__ = [
    "batch_norm_kinds",
    "has_gamma",
    "layer_names",
    "native_names",
    "numbered_arrays",
    "read_native",
    "whole_model_layers",
]

# Of `model.save("x.h5")`: the group of the weights, and the attributes with the names.
WHOLE_MODEL, LAYERS, WEIGHTS = "model_weights", "layer_names", "weight_names"

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

# Where Keras 3 stores a layer's variables; optimizer, metrics and seeds are elsewhere.
LAYER = re.compile(r"(.*/)?layers/[^/]+/vars")


def read_native(path: str, wanted: Container[str], limit: int | None) -> dict[str, np.ndarray]:
    """The weights of a file that Keras 3 wrote, by layer name.

    Args:
        path: str. A `.weights.h5` or `.keras` file, or an `.h5` file of `model.save`.
        wanted: Names of the arrays to read; the others are placeholders.
        limit: int. The most bytes to unpack from a `.keras` file; None: as of `hdf5.locate_hdf5`.

    Returns:
        Layer and number of the variable in it, such as `Mixed_5b_b1_0_conv/0` → array.

    Raises:
        UserError: The file is missing, damaged or without layer names, or a name occurs twice.
    """
    check_content(path, f"no weights file at '{path}'; give a .weights.h5 or .keras file")
    with (
        damage_is(
            f"'{path}' is damaged or not a Keras file; give a complete .weights.h5 or .keras file"
        ),
        hdf5.open_hdf5(path, limit) as file,
    ):
        return read_wanted(numbered_arrays(file, path), wanted)


def numbered_arrays(file: h5py.File, path: str) -> dict[str, StoredArray]:
    """The arrays of a file that Keras 3 wrote, by layer name.

    Args:
        file: The open file.
        path: str. Its path, for errors.

    Returns:
        Layer and number of the variable in it, such as `Mixed_5b_b1_0_conv/0` → array.

    Raises:
        UserError: There are no layer names, or a name occurs twice.
    """
    layers = _layers(file, path)
    _check_names(path, [name for name, _ in layers])
    return {
        f"{layer}/{number}": array for layer, arrays in layers for number, array in arrays.items()
    }


def _check_names(path: str, names: list[str]) -> None:
    if not names:
        raise UserError(
            f"'{path}' has no layer names, which Keras 3 writes; save the model again with"
            " model.save_weights or model.save"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"'{path}' has several layers called '{shown_name(twice[0])}'; give the file of one network alone"
        )


def layer_names(file: h5py.File, path: str) -> list[str]:
    """The names of the layers that have variables in a file of Keras 3.

    Args:
        file: The open file.
        path: str. Its path, for errors.

    Returns:
        Names in the order of the file.
    """
    return [name for name, _ in _groups(file, path)]


def _layers(file: h5py.File, path: str) -> list[tuple[str, dict[str, StoredArray]]]:
    """Name and numbered variables of each layer that has both."""
    if whole := whole_model_layers(file, path):
        return [
            (layer, {str(number): one for number, one in enumerate(weights.values())})
            for layer, weights in whole.items()
            if weights
        ]
    return [
        (
            name,
            {number: hdf5.stored_array(item, path) for number, item in hdf5.children(group, path)},
        )
        for name, group in _groups(file, path)
    ]


def whole_model_layers(file: h5py.File, path: str) -> dict[str, dict[str, StoredArray]]:
    """The variables in the format of Keras 1 and 2, which Keras 3 writes for `model.save("x.h5")`.

    Args:
        file: The open file.
        path: str. Its path, for errors.

    Returns:
        Layer → name such as `conv2d_1/kernel:0` → array, both in the order of the file; nothing for a
        file of another format.

    Raises:
        UserError: An array is not in the file itself, or names and arrays do not fit each other.
    """
    root = hdf5.child(file, WHOLE_MODEL, path) if WHOLE_MODEL in file else file
    found: dict[str, dict[str, StoredArray]] = {}
    for layer in _names(root, LAYERS, path):
        group = _inside(root, layer, path)
        if layer in found:
            raise UserError(
                f"'{path}' has several layers called '{shown_name(layer)}'; give the file of one network alone"
            )
        weights = _names(group, WEIGHTS, path)
        found[layer] = {
            weight: hdf5.stored_array(_inside(group, weight, path), path) for weight in weights
        }
    return found


def _names(item: h5py.Group, key: str, path: str) -> list[str]:
    """A list of names in an attribute, which Keras splits into `key0`, `key1`... where it is long."""
    if key not in item.attrs and f"{key}0" not in item.attrs:
        if key == LAYERS:
            return []
        raise UserError(f"'{shown_name(item.name)}' in '{path}' has no {key}; give a complete file")
    keys = [key] if key in item.attrs else []
    while not keys or keys[0] != key:
        if f"{key}{len(keys)}" not in item.attrs:
            break
        keys.append(f"{key}{len(keys)}")
    names = []
    for one in keys:
        found = hdf5.texts(item, one)
        if found is None:
            raise UserError(
                f"the {one} of '{shown_name(item.name)}' in '{path}' are no names; give a complete file"
            )
        names += found
    return names


def _inside(group: h5py.Group, name: str, path: str) -> Any:
    """`group[name]` without a link on the way."""
    for part in name.split("/"):
        group = hdf5.child(group, part, path)
    return group


def _groups(file: h5py.File, path: str) -> list[tuple[str, h5py.Group]]:
    """The name of each layer that has one, and the group of its variables."""
    found = []
    for group in hdf5.groups(file, path):
        if not LAYER.fullmatch(group.name.removeprefix("/")) or not len(group):
            continue
        if "name" in group.attrs:
            name = hdf5.text(group, "name")
            if name is None:
                raise UserError(
                    f"the name of '{shown_name(group.name)}' in '{path}' is no text; give another file"
                )
            found.append((name, group))
    return found


def native_names(model: keras.Model, theirs: Iterable[str]) -> dict[str, str]:
    """The names of a model's variables in a file of Keras 3.

    Args:
        model: The model.
        theirs: Names of the file's arrays, as `read_native` returns them.

    Returns:
        Variable path → the file's name; arrays without a layer in the model keep the file's name.
    """
    theirs = list(theirs)
    counts = Counter(name.rsplit("/", 1)[0] for name in theirs)
    ours = {
        f"{layer.name}/{number}": path
        for layer in model.layers
        for number, path in enumerate(_paths(layer, counts[layer.name]))
    }
    return {ours.get(name, name): name for name in theirs}


def _paths(layer: keras.Layer, count: int) -> list[str]:
    """The paths of a layer's variables in the order of a file that has `count` of them: with or without a gamma."""
    paths = [variable.path for variable in layer.weights]
    if [path.rsplit("/", 1)[-1] for path in paths[-3:]] != list(BATCH_NORM[1:]):
        return paths
    prefix = paths[-1].removesuffix(BATCH_NORM[-1])
    return [f"{prefix}{kind}" for kind in batch_norm_kinds(count)]


def batch_norm_kinds(count: int) -> tuple[str, ...]:
    """The variables of a batch normalization in the order in which Keras numbers them.

    Args:
        count: int. How many a file has.

    Returns:
        Their names, of which four begin with `gamma` and three do not have it; nothing for another number.
    """
    return {4: BATCH_NORM, 3: BATCH_NORM[1:]}.get(count, ())


def has_gamma(path: str) -> bool:
    """Whether a normalization after a convolution has a gamma in a file of this project; arrays are not read.

    Args:
        path: str. A file that `read_native` accepts.

    Returns:
        True if any has.

    Raises:
        UserError: As in `read_native`.
    """
    counts = Counter(name.rsplit("/", 1)[0] for name in read_native(path, NOTHING, None))
    return any(name.endswith("_bn") and n == len(BATCH_NORM) for name, n in counts.items())
