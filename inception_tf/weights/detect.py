# SPDX-License-Identifier: Apache-2.0
"""Detection of whose format a weights file has: by its name, or else by its first bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable

from inception_tf.errors import UserError
from inception_tf.host.files import check_content
from inception_tf.weights.formats import keras_h5

__all__ = ["check_weights_path", "detect_source"]

SUFFIXES = {
    ".safetensors": "timm",
    ".pth": "timm",
    ".pt": "timm",
    ".npz": "bvlc",
    ".caffemodel": "bvlc",
    ".pb": "graph",
}
HDF5 = b"\x89HDF\r\n\x1a\n"


def detect_source(path: str, sources: Iterable[str], limit: int | None = None) -> str:
    """The source whose format a file has; "timm" for both torchvision and timm, whose formats are equal.

    Args:
        path: str. The file, or a checkpoint's name.
        sources: Names to list in the error.
        limit: The most bytes to unpack from a `.keras` file, where the network is known.

    Returns:
        A key of `sources.SOURCES`.

    Raises:
        UserError: The file is of none of the known formats.
    """
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1]
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in (".h5", ".hdf5", ".keras") or _first_bytes(path, len(HDF5)) == HDF5:
        return "keras" if keras_h5.is_keras_applications(path, limit) else "native"
    if ".ckpt" in name or os.path.exists(f"{path}.index"):
        return "slim"
    raise UserError(
        f"cannot detect the format of '{path}'; give a .weights.h5 or .keras file, a slim checkpoint (.ckpt),"
        " an .h5 file of keras.applications, a .safetensors or .pth file of torchvision or timm,"
        f" BVLC's .npz or a frozen graph (.pb), or name the source with source={' or '.join(map(repr, sources))}"
    )


def check_weights_path(path: str) -> None:
    """Check that a path is no folder, device or Git LFS pointer.

    Args:
        path: str. The file, or a checkpoint's name; a missing file is no error here.

    Raises:
        UserError: It is, or its links form a loop.
    """
    if os.path.isdir(path) and not path.endswith(".keras"):
        raise UserError(
            f"'{path}' is a folder; give {_checkpoints(path) or 'a weights file in it'}"
        )
    for file in (path, f"{path}.index"):
        if os.path.lexists(file):
            check_content(file)


def _checkpoints(folder: str) -> str:
    kept = (name for name in os.listdir(folder) if name.endswith((".index", ".ckpt")))
    found = sorted(name.removesuffix(".index") for name in kept)
    return f"one checkpoint in it, such as '{os.path.join(folder, found[-1])}'" if found else ""


def _first_bytes(path: str, count: int) -> bytes:
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read(count)
