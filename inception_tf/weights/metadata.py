# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that weights need, kept inside their file: weights without it score at random."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from inception_tf.data.preprocessing import Preprocessing

__all__ = ["read_preprocessing", "read_switches", "write_preprocessing", "write_switches"]

# Attributes of the HDF5 file's root.
ATTRIBUTE = "inception_tf_preprocessing"
SWITCHES = "inception_tf_switches"


def write_preprocessing(path: str | Path, preprocessing: Preprocessing) -> None:
    """Notes in a `.weights.h5` file how images are prepared for it."""
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[ATTRIBUTE] = json.dumps(dataclasses.asdict(preprocessing))


def read_preprocessing(path: str | Path) -> Preprocessing | None:
    """What `write_preprocessing` noted, or None for any other file."""
    text = _attribute(path, ATTRIBUTE)
    return Preprocessing(**json.loads(text)) if text else None


def write_switches(path: str | Path, switches: Mapping[str, object]) -> None:
    """Notes in a `.weights.h5` file which switches of its network it belongs to."""
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[SWITCHES] = json.dumps(dict(switches))


def read_switches(path: str | Path) -> dict[str, object]:
    """What `write_switches` noted; empty for any other file."""
    return json.loads(_attribute(path, SWITCHES) or "{}")


def _attribute(path: str | Path, name: str) -> str | None:
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        return file.attrs.get(name)
