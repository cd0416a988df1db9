# SPDX-License-Identifier: Apache-2.0
"""The preprocessing and the variant switches that weights need, stored in their file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.host.files import check_content
from inception_tf.models import NETWORKS, SCALE
from inception_tf.weights.formats import hdf5, native

__all__ = [
    "read_network",
    "read_preprocessing",
    "read_switches",
    "write_network",
    "write_preprocessing",
    "write_switches",
]

# Attributes of the HDF5 file's root.
PREPROCESSING = "inception_tf_preprocessing"
SWITCHES = "inception_tf_switches"
NETWORK = "inception_tf_network"
MAX_SIDE = 8192  # pixels
# Arguments of the builders that a file's reader chooses itself, and that are no switches.
RESERVED = ("classes", "include_top", "input_shape", "input_tensor", "name", "pooling", "weights")


def write_network(path: str | Path, name: str) -> None:
    """Store the name of the network in a `.weights.h5` file.

    Args:
        path: The file, which must exist.
        name: One of `list_models()`.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[NETWORK] = name


def read_network(path: str | Path) -> str | None:
    """The name of the network stored in a weights file.

    Args:
        path: The file.

    Returns:
        What `write_network` stored; None for any other file.

    Raises:
        UserError: The name is of no network of this package.
    """
    import h5py

    path = os.fspath(path)
    check_content(path)
    if not h5py.is_hdf5(path):
        return None
    with _from(path), h5py.File(path, "r") as file:
        name = hdf5.text(file, NETWORK)
    if name is not None and name not in NETWORKS:
        raise unknown(f"network in the settings of '{path}'", name[:80], NETWORKS)
    return name


def write_preprocessing(path: str | Path, preprocessing: Preprocessing) -> None:
    """Store the preprocessing in a `.weights.h5` file.

    Args:
        path: The file, which must exist.
        preprocessing: How images are prepared for these weights.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[PREPROCESSING] = json.dumps(dataclasses.asdict(preprocessing))


def read_preprocessing(path: str | Path) -> Preprocessing | None:
    """The preprocessing stored in a weights file.

    Args:
        path: The file.

    Returns:
        What `write_preprocessing` stored; None for any other file.

    Raises:
        UserError: The file has something else in its place, or a value that is not allowed.
    """
    values = _settings(path, PREPROCESSING)
    if values is None:
        return None
    with _from(path):
        made = Preprocessing(**values)
        made.check()
        if made.size > MAX_SIDE:
            raise ValueError(f"images of {made.size} pixels")
        return made


def write_switches(path: str | Path, switches: Mapping[str, object]) -> None:
    """Store the variant switches in a `.weights.h5` file.

    Args:
        path: The file, which must exist.
        switches: The network's switches that these weights need.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[SWITCHES] = json.dumps(dict(switches))


def read_switches(path: str | Path) -> dict[str, object]:
    """The variant switches that a weights file of this project needs.

    Args:
        path: The file.

    Returns:
        What `write_switches` stored, and `batch_norm_scale` where the file has gammas.

    Raises:
        UserError: The file has something else in its place.
    """
    values = _settings(path, SWITCHES) or {}
    for key, value in values.items():
        if key in RESERVED or not isinstance(value, bool | int | float | str):
            raise UserError(
                f"the settings in '{path}' have {key[:80]}, which is no switch of a network; convert the weights again"
            )
    return values | ({SCALE: True} if native.has_gamma(os.fspath(path)) else {})


def _settings(path: str | Path, name: str) -> dict[str, Any] | None:
    """The JSON object in an attribute; None if the file has none, or is no HDF5 file."""
    import h5py

    path = os.fspath(path)
    check_content(path)
    if not h5py.is_hdf5(path):
        return None
    with _from(path), h5py.File(path, "r") as file:
        if name not in file.attrs:
            return None
        values = json.loads(hdf5.text(file, name) or "")
        if not isinstance(values, dict):
            raise TypeError("no object")
        return values


@contextmanager
def _from(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the settings in '{path}' are not what this project writes ({reason}); convert the weights again"
        ) from error
