# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that weights need, kept inside their file: weights without it score at random."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from inception_tf.data.preprocessing import Preprocessing

__all__ = ["read_view", "write_view"]

ATTRIBUTE = "inception_tf_preprocessing"  # of the HDF5 file's root


def write_view(path: str | Path, view: Preprocessing) -> None:
    """Notes in a `.weights.h5` file how images are prepared for it."""
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[ATTRIBUTE] = json.dumps(dataclasses.asdict(view))


def read_view(path: str | Path) -> Preprocessing | None:
    """What `write_view` noted, or None for any other file."""
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        text = file.attrs.get(ATTRIBUTE)
    return Preprocessing(**json.loads(text)) if text else None
