# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's hashes of a SavedModel: as its `fingerprint.pb` states them, and computed from its other files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from inception_tf.host.proto_classes import Field, proto_class
from inception_tf.host.tensorflow_internals import TENSORFLOW

__all__ = ["FINGERPRINT_FILE", "HASHES", "compute_fingerprint", "read_fingerprint"]

FINGERPRINT_FILE = "fingerprint.pb"
# From tensorflow/core/protobuf/fingerprint.proto.
HASHES = (
    "saved_model_checksum",
    "graph_def_program_hash",
    "signature_def_hash",
    "saved_object_graph_hash",
    "checkpoint_hash",
)
_MESSAGES = {
    "FingerprintDef": tuple(Field(name, n, "uint64") for n, name in enumerate(HASHES, start=1))
}


def read_fingerprint(folder: Path) -> dict[str, str]:
    """Reads the hashes that a SavedModel states.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        Each name of `HASHES` to a number of 64 bits, in decimal.

    Raises:
        ValueError: There is no `fingerprint.pb`, or it is damaged.
    """
    try:
        return _hashes((folder / FINGERPRINT_FILE).read_bytes())
    except OSError as error:
        raise ValueError(f"{FINGERPRINT_FILE} cannot be read: {error.strerror}") from error


def compute_fingerprint(folder: Path) -> dict[str, str]:
    """Computes the hashes of a SavedModel from its graph and the index of its variables.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        Each name of `HASHES` to a number of 64 bits, in decimal.

    Raises:
        ValueError: The graph cannot be read.
    """
    create = TENSORFLOW.get("CreateFingerprintDef")
    try:
        content = create(str(folder))
    except Exception as error:  # of a class that C++ defines
        raise ValueError(f"the fingerprint cannot be computed: {error}") from error
    return _hashes(content)


def _hashes(content: bytes) -> dict[str, str]:
    found = _fingerprint()()
    try:
        found.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(f"{FINGERPRINT_FILE} is no fingerprint: {error}") from error
    return {name: str(getattr(found, name)) for name in HASHES}


@cache
def _fingerprint() -> Any:
    return proto_class("inception_tf.fingerprint", _MESSAGES, "FingerprintDef")
