# SPDX-License-Identifier: Apache-2.0
"""`.safetensors` files, byte by byte: the header's length, the header, the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inception_tf.models import variant
from inception_tf.weights.names import torch

DTYPES = {"float32": "F32", "float16": "F16", "int64": "I64"}


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A `.safetensors` file of these arrays."""
    header, content, end = {}, [], 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        content.append(array.tobytes())
        header[name] = {
            "dtype": DTYPES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(content))


def state_of(model, network: str, **switches) -> dict[str, np.ndarray]:
    """A model's weights in torch's layout and names, gammas 1 where the model has none."""
    names, state = torch.torch_names(variant(network, **switches)), {}
    for weight in model.weights:
        array = weight.numpy()
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
        state[names[weight.path]] = np.ascontiguousarray(array.transpose(order))
    gammas = {
        name.replace("running_mean", "weight"): np.ones_like(array)
        for name, array in state.items()
        if name.endswith(".bn.running_mean")
    }
    return gammas | state
