# SPDX-License-Identifier: Apache-2.0
"""What a weights file is: by its name, or by its first bytes where the name says nothing."""

from __future__ import annotations

import os

from inception_tf.errors import UserError
from inception_tf.weights.formats import keras_h5

__all__ = ["check", "guess"]

LFS = b"version https://git-lfs.github.com/spec/"
SUFFIXES = {
    ".safetensors": "timm",
    ".pth": "timm",
    ".pt": "timm",
    ".npz": "bvlc",
    ".caffemodel": "bvlc",
}
HDF5 = b"\x89HDF\r\n\x1a\n"


def guess(path: str, sources) -> str:
    """The source whose form the file has; torchvision's and timm's are one form."""
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1]
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in (".h5", ".hdf5", ".keras") or _first_bytes(path, len(HDF5)) == HDF5:
        return "keras" if keras_h5.is_of_keras_applications(path) else "own"
    if ".ckpt" in name or os.path.exists(f"{path}.index"):
        return "slim"
    raise UserError(
        f"cannot tell what '{path}' is; give a .weights.h5 or .keras file, a slim checkpoint (.ckpt),"
        " an .h5 file of keras.applications, a .safetensors or .pth file of torchvision or timm, or"
        f" BVLC's .npz, or say which with source={' or '.join(map(repr, sources))}"
    )


def check(path: str) -> None:
    """Raises `UserError` for a folder of checkpoints and for a Git LFS pointer."""
    if os.path.isdir(path) and not path.endswith(".keras"):
        raise UserError(
            f"'{path}' is a folder; give {_checkpoints(path) or 'a weights file in it'}"
        )
    if _first_bytes(path, len(LFS)) == LFS:
        raise UserError(
            f"'{path}' is a Git LFS pointer and not the file itself; fetch that with git lfs pull"
        )


def _checkpoints(folder: str) -> str:
    kept = (name for name in os.listdir(folder) if name.endswith((".index", ".ckpt")))
    found = sorted(name.removesuffix(".index") for name in kept)
    return f"one checkpoint in it, such as '{os.path.join(folder, found[-1])}'" if found else ""


def _first_bytes(path: str, count: int) -> bytes:
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read(count)
