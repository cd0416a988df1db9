# SPDX-License-Identifier: Apache-2.0
"""The preprocessing and the variant switches that weights need, stored in their file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.models import SCALE
from inception_tf.weights.formats import native

__all__ = ["read_preprocessing", "read_switches", "write_preprocessing", "write_switches"]

# Attributes of the HDF5 file's root.
PREPROCESSING = "inception_tf_preprocessing"
SWITCHES = "inception_tf_switches"


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
    """
    text = _attribute(path, PREPROCESSING)
    return Preprocessing(**json.loads(text)) if text else None


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
    """
    scale = {SCALE: True} if native.has_gamma(str(path)) else {}
    return json.loads(_attribute(path, SWITCHES) or "{}") | scale


def _attribute(path: str | Path, name: str) -> str | None:
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        return file.attrs.get(name)
