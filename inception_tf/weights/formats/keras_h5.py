# SPDX-License-Identifier: Apache-2.0
"""The files of `keras.applications`: `.h5` as Keras 1 and 2 wrote them, `.weights.h5` and `.keras` of Keras 3."""

from __future__ import annotations

import os
import re
import zipfile

import numpy as np

from inception_tf.errors import UserError
from inception_tf.weights.formats import native

__all__ = ["is_keras_applications", "read_keras_h5"]

BROKEN = (OSError, KeyError, RuntimeError, zipfile.BadZipFile)

# Keras 3 numbers a layer's variables: those of a batch normalization without gamma, and of any other layer.
BATCH_NORM, OTHER = ("beta", "moving_mean", "moving_variance"), ("kernel", "bias")
NUMBERED = re.compile(r"conv2d(_\d+)?")


def is_keras_applications(path: str) -> bool:
    """Whether a file's layers have the names of `keras.applications` rather than this project's.

    Args:
        path: str. An HDF5 or `.keras` file.

    Returns:
        False also for a damaged file.
    """
    import h5py

    try:
        with h5py.File(native.locate_hdf5(path), "r") as file:
            if whole := native.whole_model_layers(file):
                return not any(map(_is_ours, whole))
            layers = native.layer_names(file)
    except BROKEN:
        return False
    return any(map(NUMBERED.fullmatch, layers)) and not any(map(_is_ours, layers))


def _is_ours(layer: str) -> bool:
    return layer.startswith("Conv2d_")


def read_keras_h5(path: str) -> dict[str, np.ndarray]:
    """The weights of a file of `keras.applications`, each under its layer's name.

    Args:
        path: str. An `.h5`, `.weights.h5` or `.keras` file.

    Returns:
        Layer and variable, such as `conv2d_12/kernel` → array.

    Raises:
        UserError: The file is missing or damaged.
    """
    import h5py

    if not os.path.isfile(path):
        raise UserError(f"no weights file at '{path}'; give the .h5 file of keras.applications")
    try:
        with h5py.File(native.locate_hdf5(path), "r") as file:
            if whole := native.whole_model_layers(file):
                return {
                    f"{layer}/{_kind(weight)}": dataset[()]
                    for layer, weights in whole.items()
                    for weight, dataset in weights.items()
                }
    except BROKEN as error:
        raise UserError(
            f"'{path}' is damaged or not an .h5 file of keras.applications; give a complete one"
        ) from error
    return {_with_kind(name): array for name, array in native.read_native(path).items()}


def _with_kind(name: str) -> str:
    """`batch_normalization_1/0` → `batch_normalization_1/beta`; a number out of range is kept."""
    layer, number = name.rsplit("/", 1)
    is_batch_norm = layer.startswith("batch_normalization") or layer.endswith("_bn")
    kinds = dict(enumerate(BATCH_NORM if is_batch_norm else OTHER))
    return f"{layer}/{kinds.get(int(number), number)}"


def _kind(weight: str) -> str:
    """`conv2d_1/kernel:0` → `kernel`."""
    return weight.rsplit("/", 1)[-1].split(":")[0]
