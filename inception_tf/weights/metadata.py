# SPDX-License-Identifier: Apache-2.0
"""What a weights file of this project says of itself: its network, the arguments that build it, and its preprocessing.

A `.weights.h5` file has it in attributes of its root, a `.keras` file in its `metadata.json`, which Keras writes and
does not read: both load without this package.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import check_content
from inception_tf.models import NETWORKS, SCALE
from inception_tf.models import switches as switches_of
from inception_tf.weights.formats import hdf5, native
from inception_tf.weights.formats.archive import check_member, member_chunks, open_archive

__all__ = [
    "LAYER_ARGUMENTS",
    "WeightsMetadata",
    "layer_arguments",
    "read_metadata",
    "stored_metadata",
    "write_metadata",
]

# Attributes of the HDF5 file's root, and keys in the member of a `.keras` file.
PREPROCESSING = "inception_tf_preprocessing"
SWITCHES = "inception_tf_switches"
NETWORK = "inception_tf_network"
KERAS, MEMBER = ".keras", "metadata.json"
LARGEST_MEMBER = 2**20  # bytes
MAX_WIDTH = 1024.0  # a million times the weights of a published network
# Arguments that decide what every layer computes; not switches, which choose another table.
LAYER_ARGUMENTS = {"activation": "relu", "width_multiplier": 1.0}


@dataclass(frozen=True)
class WeightsMetadata:
    """What is stored in a weights file beside its arrays."""

    network: str | None = None  # one of `list_models()`
    # Arguments of `create_model` that differ from their defaults: switches, `activation`, `width_multiplier`.
    switches: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None  # how images are prepared for these weights


def layer_arguments(switches: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separates the arguments of layers from the switches of a network.

    Args:
        switches: Arguments of `create_model`.

    Returns:
        `activation` and `width_multiplier`, where they differ from their defaults; the switches.
    """
    layers = {
        key: switches[key]
        for key, default in LAYER_ARGUMENTS.items()
        if key in switches and switches[key] != default
    }
    return layers, {key: v for key, v in switches.items() if key not in LAYER_ARGUMENTS}


def write_metadata(path: str | Path, metadata: WeightsMetadata) -> None:
    """Store what a weights file is in the file.

    Args:
        path: A `.weights.h5` or `.keras` file, which must exist.
        metadata: What to store; what is None stays as it is.
    """
    import h5py

    values = _stored(metadata)
    if str(path).endswith(KERAS):
        _write_member(Path(path), values)
        return
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            file.attrs[name] = value if isinstance(value, str) else json.dumps(value)


def _stored(metadata: WeightsMetadata) -> dict[str, Any]:
    prepared = metadata.preprocessing
    values = {
        NETWORK: metadata.network,
        SWITCHES: dict(metadata.switches) or None,
        PREPROCESSING: dataclasses.asdict(prepared) if prepared else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _write_member(path: Path, values: Mapping[str, Any]) -> None:
    """The archive again, with other content of one member: a zip file cannot replace it."""
    with (
        atomic_path(path) as unfinished,
        open_archive(str(path)) as archive,
        zipfile.ZipFile(unfinished, "w") as copy,
    ):
        for member in archive.infolist():
            if member.filename == MEMBER:
                copy.writestr(MEMBER, json.dumps(json.loads(archive.read(member)) | dict(values)))
                continue
            made = zipfile.ZipInfo(member.filename, member.date_time)
            made.compress_type, made.file_size = member.compress_type, member.file_size
            with copy.open(made, "w") as target:
                for chunk in member_chunks(archive, member):
                    target.write(chunk)


def read_metadata(path: str | Path) -> WeightsMetadata:
    """What a weights file of this project says of itself.

    Args:
        path: The file.

    Returns:
        What `write_metadata` stored; `batch_norm_scale` is among the switches where the file has gammas.  Nothing of a
        file of another project.

    Raises:
        UserError: The file has something else in its place, or a value that is not allowed.
    """
    stored = stored_metadata(path)
    gammas = {SCALE: True} if native.has_gamma(os.fspath(path)) else {}
    return dataclasses.replace(stored, switches={**stored.switches, **gammas})


def stored_metadata(path: str | Path) -> WeightsMetadata:
    """What `write_metadata` stored in a weights file, whose arrays are not looked at.

    Args:
        path: The file.

    Returns:
        What it stored; nothing of a file of another project.

    Raises:
        UserError: As in `read_metadata`.
    """
    path = os.fspath(path)
    check_content(path)
    values = _values(path)
    name, switches = values.get(NETWORK), values.get(SWITCHES, {})
    if name is not None and str(name) not in NETWORKS:
        raise unknown(f"network in the settings of '{path}'", str(name)[:80], NETWORKS)
    prepared = values.get(PREPROCESSING)
    preprocessing = None if prepared is None else _preprocessing(path, prepared)
    _check_switches(path, name, switches)
    return WeightsMetadata(name, switches, preprocessing)


def _preprocessing(path: str, values: Mapping[str, Any]) -> Preprocessing:
    with _from(path):
        return Preprocessing.from_json(values)


def _check_switches(path: str, network: str | None, switches: Mapping[str, Any]) -> None:
    """Checks the names and the kinds of values; which values a switch has, building its network tells."""
    known: dict[str, Any] = dict(LAYER_ARGUMENTS)
    for name in (network,) if network else NETWORKS:
        known |= switches_of(name)
    for key, value in switches.items():
        # Where the default is None, each block's published number, a value is one number.
        default = 1.0 if known.get(key) is None else known[key]
        if key not in known or _kind(value) is not _kind(default):
            raise UserError(
                f"the settings in '{path}' have {key[:80]}={str(value)[:80]!r}, which is no switch of"
                f" {network or 'a network'}; convert the weights again"
            )
    width = switches.get("width_multiplier", 1.0)
    if not 0 < width <= MAX_WIDTH:
        raise UserError(
            f"the settings in '{path}' have width_multiplier={width}, which no network has; convert the weights again"
        )


def _kind(value: Any) -> type:
    """Numbers are of one kind, whole or not; True and False are none."""
    return float if type(value) is int else type(value)


def _values(path: str) -> dict[str, Any]:
    """What is stored under each of the names; nothing of a file that is neither HDF5 nor `.keras`."""
    import h5py

    with _from(path):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                found = {name: hdf5.text(file, name) for name in (NETWORK,) if name in file.attrs}
                for name in (SWITCHES, PREPROCESSING):
                    if name in file.attrs:
                        found[name] = json.loads(hdf5.text(file, name) or "")
        elif path.endswith(KERAS):
            found = _member(path)
        else:
            return {}
        for name in (SWITCHES, PREPROCESSING):
            if not isinstance(found.get(name, {}), dict):
                raise TypeError("no object")
        return found


def _member(path: str) -> dict[str, Any]:
    with open_archive(path) as archive:
        if MEMBER not in archive.namelist():
            return {}
        member = archive.getinfo(MEMBER)
        check_member(path, member)
        if member.file_size > LARGEST_MEMBER:
            raise ValueError(f"{MEMBER} of {member.file_size:,} bytes")
        values = json.loads(b"".join(member_chunks(archive, member)))
    if not isinstance(values, dict):
        raise TypeError("no object")
    return {name: values[name] for name in (NETWORK, SWITCHES, PREPROCESSING) if name in values}


@contextmanager
def _from(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the settings in '{path}' are not what this project writes ({reason}); convert the weights again"
        ) from error
