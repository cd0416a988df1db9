# SPDX-License-Identifier: Apache-2.0
"""torch's state dicts, `.safetensors` and `.pth`, in TensorFlow's layout and without gammas.

Batch normalizations have a gamma in torch but not here: gamma * (w*x - mean) / s + beta equals
((gamma*w)*x - gamma*mean) / s + beta for any gamma, so that gamma is folded into the kernel and the
moving mean, and the moving variance is unchanged.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np

from inception_tf.errors import UserError

__all__ = ["read_state_dict"]


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    """The arrays of a state dict, with kernels in TensorFlow's layout and gammas folded in.

    Args:
        path: str. A `.safetensors` or `.pth` file.

    Returns:
        Parameter name, such as `fc.weight` → array.

    Raises:
        UserError: The file is missing, damaged, incomplete, or a pickle without torch to read it.
    """
    state = _safetensors(path) if path.endswith(".safetensors") else _pickled(path)
    arrays = {
        name: array for name, array in state.items() if not name.endswith(".num_batches_tracked")
    }
    for name in [name for name in arrays if name.endswith(".bn.running_mean")]:
        module = name.removesuffix(".bn.running_mean")
        gamma, kernel = arrays.pop(f"{module}.bn.weight", None), f"{module}.conv.weight"
        if gamma is None or kernel not in arrays or len(gamma) != len(arrays[kernel]):
            raise UserError(
                f"'{path}' has no {module}.bn.weight and {kernel} to match {name};"
                " give the complete file"
            )
        arrays[kernel] = arrays[kernel] * gamma[:, None, None, None]
        arrays[name] = arrays[name] * gamma
    return {name: _transposed(array) for name, array in arrays.items()}


def _transposed(array: np.ndarray) -> np.ndarray:
    """(out, in, H, W) → (H, W, in, out); (out, in) → (in, out)."""
    return array.transpose(AXES.get(array.ndim, tuple(range(array.ndim))))


AXES: dict[int, tuple[int, ...]] = {4: (2, 3, 1, 0), 2: (1, 0)}

PICKLES = (b"PK", b"\x80")  # first bytes: torch's archives since 1.6, its older files

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": None, "I64": "<i8", "I32": "<i4"}


def _safetensors(path: str) -> dict[str, np.ndarray]:
    """The format: the header's length (8 bytes), a JSON header, the concatenated arrays."""
    import ml_dtypes

    try:
        content = Path(path).read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        arrays = {}
        for name, entry in header.items():
            dtype = np.dtype(DTYPES[entry["dtype"]] or ml_dtypes.bfloat16)
            begin, end = (start + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(content[begin:end], dtype).reshape(entry["shape"])
        return {name: array.astype(np.float32) for name, array in arrays.items()}
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{path}' is damaged or not a .safetensors file; give a complete one"
        ) from error


def _pickled(path: str) -> dict[str, np.ndarray]:
    """Reading a pickle can run code; torch reads tensors only and refuses everything else."""
    try:
        with open(path, "rb") as file:
            is_pickle = file.read(2).startswith(PICKLES)
    except OSError as error:
        raise UserError(f"no weights file at '{path}'; give a .safetensors or .pth file") from error
    if not is_pickle:
        raise _damaged(path)
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(
            f"'{path}' is a pickle, and only torch reads it safely: pip install torch, or give the"
            " .safetensors file"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, AttributeError) as error:
        raise _damaged(path) from error


def _damaged(path: str) -> UserError:
    return UserError(
        f"'{path}' is damaged or has more than tensors, and code is never loaded;"
        " give a complete state dict"
    )
