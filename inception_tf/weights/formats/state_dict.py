# SPDX-License-Identifier: Apache-2.0
"""torch's state dicts, `.safetensors` and `.pth`, in TensorFlow's layout."""

from __future__ import annotations

import argparse
import dataclasses
import re
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.files import check_content
from inception_tf.weights.formats.archive import check_member, member_chunks, open_archive
from inception_tf.weights.formats.stored import NOTHING, StoredArray, damage_is, read_wanted
from inception_tf.weights.formats.torch_checkpoint import StateDict, find_state_dict

__all__ = ["read_state_dict", "read_torch_file", "write_state_dict"]


def read_state_dict(
    path: str, wanted: Container[str] = NOTHING, ema: bool = False
) -> dict[str, np.ndarray]:
    """The arrays of a state dict, with kernels in TensorFlow's layout.

    Args:
        path: str. A `.safetensors` or `.pth` file, which may be a trainer's checkpoint.
        wanted: Names of the arrays to read; the others are placeholders.
        ema: bool. Read the moving averages of a checkpoint instead of its weights.

    Returns:
        Parameter name, such as `fc.weight` → array.

    Raises:
        UserError: The file is missing, damaged, or a pickle without torch to read it.
    """
    arrays, _ = read_torch_file(path, wanted, ema)
    return arrays


def read_torch_file(
    path: str, wanted: Container[str] = NOTHING, ema: bool = False
) -> tuple[dict[str, np.ndarray], StateDict]:
    """The arrays of a state dict, and what else its file holds.

    Args:
        path: str. As for `read_state_dict`.
        wanted: As for `read_state_dict`.
        ema: bool. As for `read_state_dict`.

    Returns:
        The arrays, and the state dict with the names of what was skipped and the notes for a report.

    Raises:
        UserError: As for `read_state_dict`.
    """
    check_content(path, f"no weights file at '{path}'; give a .safetensors or .pth file")
    opened = _safetensors(path) if path.endswith(".safetensors") else _pickled(path, ema)
    with opened as found:
        transposed = {name: _transposed(array) for name, array in found.tensors.items()}
        return read_wanted(transposed, wanted), found


def _transposed(array: StoredArray) -> StoredArray:
    """(out, in, H, W) → (H, W, in, out); (out, in) → (in, out)."""
    axes = AXES.get(len(array.shape))
    if axes is None:
        return array
    shape = tuple(array.shape[axis] for axis in axes)
    return StoredArray(shape, array.dtype, lambda: array.read().transpose(axes))


def write_state_dict(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a state dict, completely or not at all.

    Args:
        path: A `.safetensors` file, or a `.pth` or `.pt` file, which torch writes.
        arrays: Parameter name → array in TensorFlow's layout, as `read_state_dict` returns it.

    Raises:
        UserError: torch is not installed and the file is to be its pickle.
    """
    # Not ascontiguousarray, which makes a scalar an array of one.
    state = {
        name: np.asarray(
            array.transpose(BACK[array.ndim]) if array.ndim in BACK else array, order="C"
        )
        for name, array in arrays.items()
    }
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        with atomic_path(path) as unfinished:
            save_file(state, unfinished, metadata={"format": "pt"})
        return
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(
            f"'{path}' is to be a pickle of torch, which is not installed: pip install torch, or give a name that ends"
            " in .safetensors"
        ) from error
    with atomic_path(path) as unfinished:
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, unfinished)


BACK: dict[int, tuple[int, ...]] = {4: (3, 2, 0, 1), 2: (1, 0)}
AXES: dict[int, tuple[int, ...]] = {4: (2, 3, 1, 0), 2: (1, 0)}


def _number_type(text: Any, *_: Any) -> np.dtype:
    """In place of `numpy.dtype`, of numbers alone: a type of 2 GB of bytes is a short text."""
    if not isinstance(text, str) or not NUMBER.fullmatch(text):
        raise ValueError("a type of no number")
    return np.dtype(text)


def _number(dtype: Any, data: Any) -> Any:
    """In place of what makes a NumPy number again; without its bytes that would make one of any size."""
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes | str):
        raise ValueError("no number of NumPy")
    # Written by Python 2, whose bytes are read as text.
    raw = data.encode("latin-1") if isinstance(data, str) else data
    (number,) = np.frombuffer(raw, dtype)
    return number


NUMBER = re.compile("[<>=|]?[fiu][1248]|[|]?b1")
# What trainers keep beside the weights: their command line and numbers of NumPy, whose construction runs nothing.
HARMLESS = [
    argparse.Namespace,
    (_number_type, "numpy.dtype"),
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]

ZIP, PICKLE = b"PK", b"\x80"  # first bytes: torch's archives since 1.6, its older files

# What safetensors calls the types of weights; others, such as integers, are no weights.
DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bfloat16"}


@contextmanager
def _safetensors(path: str) -> Iterator[StateDict]:
    from safetensors import safe_open

    with (
        damage_is(f"'{path}' is damaged or not a .safetensors file; give a complete one"),
        safe_open(path, framework="numpy") as file,
    ):
        arrays = {name: _safe_array(path, file, name) for name in file.keys()}  # noqa: SIM118
        yield find_state_dict(arrays, path, lambda one: isinstance(one, StoredArray), ema=False)


def _safe_array(path: str, file: Any, name: str) -> StoredArray:
    import ml_dtypes

    entry = file.get_slice(name)
    kind = entry.get_dtype()
    if kind not in DTYPES:
        return StoredArray(
            tuple(entry.get_shape()), np.dtype(np.int64), partial(_no_weights, path, name, kind)
        )
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "BF16" else DTYPES[kind])
    return StoredArray(
        tuple(entry.get_shape()), dtype, lambda: file.get_tensor(name).astype(np.float32)
    )


def _no_weights(path: str, name: str, kind: str) -> np.ndarray:
    raise UserError(f"'{name}' in '{path}' has the type {kind}, which weights never have")


@contextmanager
def _pickled(path: str, ema: bool) -> Iterator[StateDict]:
    """Reading a pickle can run code; torch reads tensors only and refuses everything else."""
    damaged = (
        f"'{path}' is damaged or has more than tensors, and code is never loaded;"
        " give a complete state dict"
    )
    with open(path, "rb") as file:
        start = file.read(2)
    if not start.startswith((ZIP, PICKLE)):
        raise UserError(damaged)
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(
            f"'{path}' is a pickle, and only torch reads it safely: pip install torch, or give the"
            " .safetensors file"
        ) from error
    with damage_is(damaged):
        if start == ZIP:
            _check_archive(path)
        # The values of an archive stay in the file until they are used.
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # of torch's own deprecated functions
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=start == ZIP)
        found = find_state_dict(content, path, lambda one: isinstance(one, torch.Tensor), ema=ema)
        tensors = {name: _tensor(path, name, tensor) for name, tensor in found.tensors.items()}
        yield dataclasses.replace(found, tensors=tensors)


def _check_archive(path: str) -> None:
    """That nothing is compressed, as torch never does it, and each checksum, which torch does not compare."""
    with open_archive(path) as archive:
        for member in archive.infolist():
            check_member(path, member, stored=True)
            for _ in member_chunks(archive, member):
                pass


def _tensor(path: str, name: Any, tensor: Any) -> StoredArray:
    import torch

    if (
        not isinstance(name, str)
        or not isinstance(tensor, torch.Tensor)
        or tensor.layout != torch.strided
        or tensor.is_quantized
    ):
        raise UserError(f"'{name}' in '{path}' is no plain tensor; give a state dict")
    dtype = np.dtype(np.float32 if tensor.is_floating_point() else np.int64)
    return StoredArray(tuple(tensor.shape), dtype, lambda: tensor.float().numpy())
