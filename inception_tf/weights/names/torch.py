# SPDX-License-Identifier: Apache-2.0
"""torchvision's and timm's parameter names as a function of position."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from inception_tf.arch import spec
from inception_tf.arch.spec import Branch, LayerSpec, Network
from inception_tf.errors import unknown
from inception_tf.models import NETWORKS
from inception_tf.nn.network import LOGITS
from inception_tf.weights.registry import FID_CLASSES

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "COUNTER",
    "NETWORKS_OF_TORCH",
    "TorchNames",
    "flatten",
    "torch_names",
    "torch_variants",
]

COUNTER = ".num_batches_tracked"  # of a batch normalization: batches seen in training, no weight
CADENE = "last_linear"  # the classifier in Cadene's pretrained-models.pytorch
FLATTENED = re.compile(r"aux\d\.fc1\.weight")  # the dense kernels over a flattened feature map


@dataclass(frozen=True)
class TorchNames:
    """What does not follow from position in torch's names of one network."""

    branch: Callable[[Branch, LayerSpec], str]  # the module of a layer inside its block
    logits: str
    modules: Mapping[str, str] = field(default_factory=dict)  # our endpoint → their module
    exceptions: Mapping[str, str] = field(
        default_factory=dict
    )  # our layer → their module inside its block
    convolutions: Mapping[str, str] = field(default_factory=dict)  # of auxiliary classifiers
    dense: Mapping[str, str] = field(default_factory=dict)  # likewise
    switch: str = ""  # the network's switch for torch's padding


def _by_number(branch: Branch, layer: LayerSpec, first: int = 0) -> str:
    """`branch2`, `branch2.1`, or `branch2_1a` in a branch that forks again."""
    b, s, *inner = layer.path
    if len(branch) == 1:
        return f"branch{b + first}"
    if any(isinstance(step, spec.Fork) for step in branch):
        return f"branch{b}_{s}{_letter(inner)}"
    return f"branch{b + first}.{s}"


# torchvision names the branches of V3 by their kernels; the longest prefix of an endpoint applies.
STEMS = {
    "Mixed_5": ("branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"),
    "Mixed_6": ("branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"),
    "Mixed_7": ("branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"),
    "Mixed_6a": ("branch3x3", "branch3x3dbl"),
    "Mixed_7a": ("branch3x3", "branch7x7x3"),
}


def _by_kernel(branch: Branch, layer: LayerSpec) -> str:
    """`branch1x1`, `branch5x5_2`, `branch3x3_2a`."""
    b, s, *inner = layer.path
    stem = STEMS.get(layer.endpoint) or STEMS[layer.endpoint[:-1]]
    weighted = [step for step in branch if not isinstance(step, spec.Pool)]
    return stem[b] if len(weighted) == 1 else f"{stem[b]}_{s + 1}{_letter(inner)}"


def _letter(inner: Iterable[int]) -> str:
    return "".join("ab"[i] for i in list(inner)[:1])


def _blocks(block: str, module: str, count: int) -> dict[str, str]:
    return {f"{block}_{n + 1}": f"{module}.{n}" for n in range(count)}


# pytorch/vision torchvision/models/googlenet.py and inception.py; pytorch-image-models
# timm/models/inception_v3.py, inception_v4.py, inception_resnet_v2.py.
NETWORKS_OF_TORCH = {
    "inception_v1": TorchNames(
        branch=partial(_by_number, first=1),
        logits="fc",
        modules={"Conv2d_1a_7x7": "conv1", "Conv2d_2b_1x1": "conv2", "Conv2d_2c_3x3": "conv3"}
        | {
            f"Mixed_{ours}": f"inception{theirs}"
            for ours, theirs in zip(
                ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"),
                ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"),
                strict=True,
            )
        },
        convolutions={f"AuxLogits_{n}_Conv2d_1b_1x1": f"aux{n}.conv" for n in (1, 2)},
        dense={f"AuxLogits_{n}_Conv2d_2a_4x4_conv": f"aux{n}.fc1" for n in (1, 2)}
        | {f"AuxLogits_{n}": f"aux{n}.fc2" for n in (1, 2)},
        switch="torch_padding",
    ),
    "inception_v3": TorchNames(
        branch=_by_kernel,
        logits="fc",
        convolutions={
            "AuxLogits_Conv2d_1b_1x1": "AuxLogits.conv0",
            "AuxLogits_Conv2d_2a_5x5": "AuxLogits.conv1",
        },
        dense={"AuxLogits": "AuxLogits.fc"},
        switch="count_padding",
    ),
    "inception_v4": TorchNames(
        branch=_by_number,
        logits="last_linear",
        modules={
            name: f"features.{n}" for n, (name, _) in enumerate(NETWORKS["inception_v4"].backbone)
        },
        exceptions={"Mixed_3a_b1_0": "conv", "Mixed_5a_b0_0": "conv"},
    ),
    "inception_resnet_v2": TorchNames(
        branch=_by_number,
        logits="classif",
        modules={f"Conv2d_{n}": f"conv2d_{n[:2]}" for n in ("1a_3x3", "2a_3x3", "2b_3x3")}
        | {f"Conv2d_{n}": f"conv2d_{n[:2]}" for n in ("3b_1x1", "4a_3x3", "7b_1x1")}
        | {f"Mixed_{n}": f"mixed_{n}" for n in ("5b", "6a", "7a")}
        | _blocks("Block35", "repeat", 10)
        | _blocks("Block17", "repeat_1", 19)
        | {"PreAuxLogits": "repeat_1.19"}
        | _blocks("Block8", "repeat_2", 9)
        | {"Block8_10": "block8"},
    ),
}

BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_names(network: Network, arrays: Iterable[str] = ()) -> dict[str, str]:
    """The names of a network's variables in torchvision and timm, auxiliary classifiers included.

    Args:
        network: The network.
        arrays: The names in a file, which may call the classifier otherwise, or have one of another structure.

    Returns:
        Our variable path → their parameter name.

    Raises:
        UserError: Neither has such a network.
    """
    if network.name not in NETWORKS_OF_TORCH:
        raise unknown("network of torchvision and timm", network.name, NETWORKS_OF_TORCH)
    torch = NETWORKS_OF_TORCH[network.name]
    found: dict[str, str] = {}
    for name, step in network.backbone:
        module = torch.modules.get(name, name)
        for layer in spec.iter_layers(name, step):
            if layer.step is spec.UP:
                found |= _dense(f"{layer.name}_conv", f"{module}.conv2d")
            elif isinstance(layer.step, spec.Conv):
                found |= _convolution(layer.name, _module(torch, module, step, layer))
    for ours, module in torch.convolutions.items():
        found |= _convolution(ours, module)
    for ours, module in torch.dense.items():
        found |= _dense(ours, module)
    names = set(arrays)
    heads = {LOGITS: _logits(torch, names)} | dict(torch.dense)
    found |= _dense(LOGITS, heads[LOGITS])
    # A replaced classifier: `fc.0.weight`, `fc.1.bias`.
    known = set(found.values())
    return found | {
        f"{ours}/{theirs}": theirs
        for ours, module in heads.items()
        for theirs in names - known
        if theirs.startswith(f"{module}.") and not theirs.endswith(COUNTER)
    }


def _logits(torch: TorchNames, names: Container[str]) -> str:
    """The module of the classifier: in Cadene's files `last_linear`, whatever the network."""
    for module in (torch.logits, CADENE, "fc"):
        if f"{module}.weight" in names:
            return module
    return torch.logits


def _module(torch: TorchNames, block: str, step: spec.Step, layer: LayerSpec) -> str:
    if not isinstance(step, spec.Fork | spec.Residual):
        return block
    inside = torch.exceptions.get(layer.name)
    return f"{block}.{inside or torch.branch(step.branches[layer.path[0]], layer)}"


def _convolution(ours: str, module: str) -> dict[str, str]:
    return {f"{ours}_conv/kernel": f"{module}.conv.weight"} | {
        f"{ours}_bn/{kind}": f"{module}.bn.{theirs}" for kind, theirs in BATCH_NORM.items()
    }


def _dense(ours: str, module: str) -> dict[str, str]:
    return {f"{ours}/kernel": f"{module}.weight", f"{ours}/bias": f"{module}.bias"}


def flatten(name: str, array: np.ndarray) -> np.ndarray:
    """A convolution's kernel as torch has it where it is a dense kernel over a flattened feature map.

    Args:
        name: torchvision's parameter name.
        array: In TensorFlow's layout, (4, 4, channels, out) for such a kernel.

    Returns:
        (channels * 4 * 4, out) for such a kernel; any other array unchanged.
    """
    if not FLATTENED.fullmatch(name):
        return array
    return array.transpose(2, 0, 1, 3).reshape(-1, array.shape[-1])


def torch_variants(name: str, arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The variants of a network that a state dict may be of; their variables have the same names and shapes.

    Args:
        name: The network.
        arrays: The file's arrays, or placeholders of their shapes.

    Returns:
        Switches of each; several where nothing in the file tells them apart.
    """
    torch = NETWORKS_OF_TORCH.get(name)
    if torch is None or not torch.switch:
        return [{}]
    theirs = {torch.switch: True}
    if name != "inception_v3":
        return [theirs]
    # The graph of 2015, whose names in torch are torchvision's, has 1,008 classes and no auxiliary classifier.
    has_auxiliary = any(one.startswith("AuxLogits.") for one in arrays)
    bias = arrays.get(f"{_logits(torch, arrays)}.bias")
    if has_auxiliary or (bias is not None and bias.shape[-1] != FID_CLASSES):
        return [theirs]
    return [{"last_pool": "max"}] if bias is not None else [theirs, {"last_pool": "max"}]
