# SPDX-License-Identifier: Apache-2.0
"""BVLC's Caffe GoogLeNet: its layers' names as a function of position, `.npz` and `.caffemodel`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable

import numpy as np

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import UserError, unknown
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.caffe import read_caffemodel

__all__ = ["names", "read"]

NETWORKS_OF_BVLC = ("googlenet",)
STEM = {
    "Conv2d_1a_7x7": "conv1/7x7_s2",
    "Conv2d_2b_1x1": "conv2/3x3_reduce",
    "Conv2d_2c_3x3": "conv2/3x3",
}
BRANCHES = (("1x1",), ("3x3_reduce", "3x3"), ("5x5_reduce", "5x5"), ("pool", "pool_proj"))
AUXILIARY = {"Conv2d_1b_1x1": "conv", "Conv2d_2a_4x4": "fc"}
FULLY_CONNECTED = (128, 4, 4)  # channels, height, width of what loss1/fc and loss2/fc flatten


def names(network: Network, theirs: Iterable[str] = ()) -> dict[str, str]:
    """Our variable path → Caffe's layer and kind, auxiliary classifiers included."""
    if network.name not in NETWORKS_OF_BVLC:
        raise unknown("network of BVLC", network.name, NETWORKS_OF_BVLC)
    found = {}
    for name, step in network.backbone:
        for place in spec.iter_layers(name, step):
            if isinstance(place.step, spec.Conv):
                layer = STEM.get(name) or _in_module(place)
                found |= _layer(f"{place.name}_conv", layer)
    for number, auxiliary in enumerate(network.auxiliaries, 1):
        for step, layer in AUXILIARY.items():
            found |= _layer(f"{auxiliary.name}_{step}_conv", f"loss{number}/{layer}")
        found |= _layer(auxiliary.name, f"loss{number}/classifier")
    return found | _layer(LOGITS, "loss3/classifier")


def _in_module(place: spec.LayerSpec) -> str:
    """`Mixed_3b_b1_0` → `inception_3a/3x3_reduce`: slim counts the pooling before a stage, BVLC does not."""
    grid, letter = place.endpoint.removeprefix("Mixed_")
    b, s = place.path
    return f"inception_{grid}{chr(ord(letter) - 1)}/{BRANCHES[b][s]}"


def _layer(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}/{kind}": f"{theirs}/{kind}" for kind in ("kernel", "bias")}


def read(path: str) -> dict[str, np.ndarray]:
    """`{"conv1/7x7_s2/kernel": (H, W, in, out)}`, float32; a flattened grid gets its sides back."""
    arrays = read_caffemodel(path) if path.endswith(".caffemodel") else _npz(path)
    return {name: _unflattened(name, array) for name, array in arrays.items()}


def _npz(path: str) -> dict[str, np.ndarray]:
    try:
        # Without allow_pickle, the default, NumPy loads numbers and no objects.
        with open(path, "rb") as raw, np.load(raw) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"no weights file at '{path}'; give a .npz or .caffemodel file") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' is damaged or no .npz file; give a complete one") from error


def _unflattened(name: str, array: np.ndarray) -> np.ndarray:
    """Caffe flattens a grid channels first."""
    if name.endswith("/fc/kernel") and array.shape[0] == np.prod(FULLY_CONNECTED):
        return array.reshape(*FULLY_CONNECTED, -1).transpose(1, 2, 0, 3)
    return array
