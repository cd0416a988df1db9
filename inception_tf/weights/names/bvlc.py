# SPDX-License-Identifier: Apache-2.0
"""BVLC's Caffe GoogLeNet: layer names as a function of position, and the files `.npz` and `.caffemodel`."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.errors import unknown
from inception_tf.host.files import check_content
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.caffe import read_caffemodel
from inception_tf.weights.formats.npz import read_npz

__all__ = ["NETWORKS_OF_BVLC", "bvlc_names", "read_bvlc"]

NETWORKS_OF_BVLC = ("googlenet",)
STEM = {
    "Conv2d_1a_7x7": "conv1/7x7_s2",
    "Conv2d_2b_1x1": "conv2/3x3_reduce",
    "Conv2d_2c_3x3": "conv2/3x3",
}
BRANCHES = (("1x1",), ("3x3_reduce", "3x3"), ("5x5_reduce", "5x5"), ("pool", "pool_proj"))
AUXILIARY = {"Conv2d_1b_1x1": "conv", "Conv2d_2a_4x4": "fc"}
FULLY_CONNECTED = (
    128,
    4,
    4,
)  # channels, height, width of the feature map that loss1/fc and loss2/fc flatten


def bvlc_names(network: Network) -> dict[str, str]:
    """The names of a network's variables in Caffe, auxiliary classifiers included.

    Args:
        network: `googlenet` or a variant of it.

    Returns:
        Our variable path → Caffe's layer and kind, such as `conv1/7x7_s2/kernel`.

    Raises:
        UserError: BVLC has no such network.
    """
    if network.name not in NETWORKS_OF_BVLC:
        raise unknown("network of BVLC", network.name, NETWORKS_OF_BVLC)
    found: dict[str, str] = {}
    for name, step in network.backbone:
        for layer in spec.iter_layers(name, step):
            if isinstance(layer.step, spec.Conv):
                theirs = STEM.get(name) or _in_module(layer)
                found |= _dense(f"{layer.name}_conv", theirs)
    for number, auxiliary in enumerate(network.auxiliaries, 1):
        for step_name, theirs in AUXILIARY.items():
            found |= _dense(f"{auxiliary.name}_{step_name}_conv", f"loss{number}/{theirs}")
        found |= _dense(auxiliary.name, f"loss{number}/classifier")
    return found | _dense(LOGITS, "loss3/classifier")


def _in_module(layer: spec.LayerSpec) -> str:
    """`Mixed_3b_b1_0` → `inception_3a/3x3_reduce`: slim counts the pooling before a stage, BVLC does not."""
    stage, letter = tuple(layer.endpoint.removeprefix("Mixed_"))
    b, s = layer.path
    return f"inception_{stage}{chr(ord(letter) - 1)}/{BRANCHES[b][s]}"


def _dense(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}/{kind}": f"{theirs}/{kind}" for kind in ("kernel", "bias")}


def read_bvlc(path: str, wanted: Container[str], limit: int) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` or `.caffemodel` file, in TensorFlow's layout.

    Args:
        path: str. The file.
        wanted: Names of the arrays to read; the others are placeholders.
        limit: int. The most bytes that a `.caffemodel` file may have.

    Returns:
        Caffe's name → float array; kernels are (H, W, in, out), also those over a flattened feature map.

    Raises:
        UserError: The file is missing, damaged or has no weights.
    """
    check_content(path, f"no weights file at '{path}'; give a .npz or .caffemodel file")
    if path.endswith(".caffemodel"):
        arrays = read_caffemodel(path, wanted, limit)
    else:
        arrays = read_npz(path, wanted)
    return {name: _unflattened(name, array) for name, array in arrays.items()}


def _unflattened(name: str, array: np.ndarray) -> np.ndarray:
    """Undo the flattening of a feature map, which is channels first in Caffe."""
    if name.endswith("/fc/kernel") and array.ndim == 2 and len(array) == np.prod(FULLY_CONNECTED):
        return array.reshape(*FULLY_CONNECTED, -1).transpose(1, 2, 0, 3)
    return array
