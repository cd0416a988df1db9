# SPDX-License-Identifier: Apache-2.0
"""Weights written for other projects: in their names and layouts, in the files that their packages load."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from inception_tf.arch.counting import layer_costs, total
from inception_tf.arch.spec import Network
from inception_tf.errors import UserError, unknown
from inception_tf.host.atomic_io import atomic_path
from inception_tf.models import SCALE, find_network, switches, variant
from inception_tf.nn.builder import BN_EPSILON
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.state_dict import write_state_dict
from inception_tf.weights.formats.stored import abbreviate
from inception_tf.weights.formats.tf1_checkpoint import write_tf1_checkpoint
from inception_tf.weights.gamma import GAMMA, fold_gammas
from inception_tf.weights.names import torch
from inception_tf.weights.names.keras_applications import keras_names
from inception_tf.weights.names.slim import slim_names

__all__ = ["TARGETS", "Written", "write_foreign"]


@dataclass(frozen=True)
class Target:
    """A project that weights can be written for."""

    # Our network → the switches whose values its own network has; all others must have their defaults.
    networks: Mapping[str, Mapping[str, Any]]
    endings: tuple[str, ...]
    # (path, network, arrays, classes or None) → the line that loads the file in the project's package.
    write: Callable[[Path, Network, dict[str, np.ndarray], int | None], str]
    free: tuple[str, ...] = ()  # switches that its networks have too
    gammas: bool = False  # its batch normalizations have a gamma
    auxiliaries: tuple[str, ...] = ()  # the networks that it has auxiliary classifiers of
    channels: bool = True  # it has networks for other than three input channels
    backbone: bool = True  # it has networks without a classifier
    other: Mapping[str, str] = field(default_factory=dict)  # network → why only its backbone can go


@dataclass(frozen=True)
class Written:
    """What was written."""

    arrays: int
    notes: tuple[str, ...]  # sentences without their stops
    use: str  # a line that loads the file

    def __str__(self) -> str:
        return "; ".join((f"{self.arrays} arrays written", *self.notes)) + "."


def write_foreign(
    model: keras.Model,
    name: str,
    chosen: Mapping[str, Any],
    target: str,
    path: str | Path,
) -> Written:
    """Write a network's weights as another project's package loads them, completely or not at all.

    Args:
        model: A model of `create_model`.
        name: str. Its network, one of `list_models()`.
        chosen: The variant switches that it was built with.
        target: str. One of `TARGETS`.
        path: The file to write; of slim the checkpoint's name.

    Returns:
        What was written.

    Raises:
        UserError: The project has no such network, or its network would answer otherwise; nothing was written.
    """
    if target not in TARGETS:
        raise unknown("project", target, TARGETS)
    to, path = TARGETS[target], Path(path)
    network = variant(name, **chosen)
    _check_switches(target, to, name, chosen)
    _check_ending(target, to, path)
    arrays = {v.path: keras.ops.convert_to_numpy(v).astype(np.float32) for v in model.weights}
    _check_layers(model, network, arrays)
    classes = arrays[f"{LOGITS}/bias"].shape[-1] if f"{LOGITS}/bias" in arrays else None
    _check_ends(target, to, name, arrays, classes)
    notes = []
    if name not in to.auxiliaries:
        gone = [path for path in arrays if path.startswith("AuxLogits")]
        arrays = {path: array for path, array in arrays.items() if path not in gone}
        if gone:
            notes.append(
                f"{len(gone)} arrays of auxiliary classifiers omitted, which its network has none of"
                f" ({abbreviate(gone)})"
            )
    notes += _fit_gammas(to, arrays)
    use = to.write(path, network, arrays, classes)
    return Written(len(arrays), tuple(notes), use)


def _fit_gammas(to: Target, arrays: dict[str, np.ndarray]) -> list[str]:
    gammas = {path: arrays[path] for path in arrays if path.endswith(GAMMA)}
    if to.gammas and not gammas:
        means = [path for path in arrays if path.endswith("/moving_mean")]
        arrays |= {p.replace("/moving_mean", "/gamma"): np.ones_like(arrays[p]) for p in means}
        return [f"its gammas are 1, of which these weights have none ({len(means)})"]
    if to.gammas:
        return []
    for path in gammas:
        del arrays[path]
    note = fold_gammas(arrays, gammas)
    return [note] if note else []


def _check_switches(target: str, to: Target, name: str, chosen: Mapping[str, Any]) -> None:
    if name not in to.networks:
        raise UserError(
            f"{target} has no network like {name}; it has {', '.join(to.networks)}; keep the weights as they are"
        )
    ours, theirs = switches(name) | dict(chosen), switches(name) | dict(to.networks[name])
    differing = {k: v for k, v in theirs.items() if k not in (SCALE, *to.free) and ours[k] != v}
    if differing:
        wanted = " and ".join(f"{switch}={value}" for switch, value in differing.items())
        had = " and ".join(f"{switch}={ours[switch]}" for switch in differing)
        raise UserError(
            f"{target}'s {name} has {wanted} and these weights were trained with {had}, so that it would give other"
            f" answers; train with {wanted} to take the weights there"
        )


def _check_ending(target: str, to: Target, path: Path) -> None:
    if not path.name.endswith(to.endings):
        raise UserError(
            f"a file for {target} must end in {' or '.join(to.endings)}, got '{path}'; give another name"
        )
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}; create it first")


def _check_layers(model: keras.Model, network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """That the network is the published one: its widths, activation and epsilon."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Activation) and layer.output.shape[1:-1]:
            activation = keras.activations.serialize(layer.activation)
            if activation != "relu":
                raise UserError(
                    f"other projects' networks have relu, and these weights were trained with {activation}"
                )
        if isinstance(layer, keras.layers.BatchNormalization) and layer.epsilon != BN_EPSILON:
            raise UserError(
                f"other projects' networks have a batch normalization epsilon of {BN_EPSILON:g}, and these weights"
                f" were trained with {layer.epsilon:g}"
            )
    head = arrays.get(f"{LOGITS}/bias")
    costs = layer_costs(
        network,
        channels=_channels(arrays),
        classes=None if head is None else head.shape[-1],
        aux_logits=any(path.startswith("AuxLogits") for path in arrays),
    )
    if total(costs, "params") != sum(array.size for array in arrays.values()):
        raise UserError(
            f"these weights are not those of a whole {network.name}: they have"
            f" {sum(array.size for array in arrays.values()):,} parameters, and it has {total(costs, 'params'):,};"
            " a width_multiplier other than 1 has no network elsewhere"
        )


def _channels(arrays: Mapping[str, np.ndarray]) -> int:
    return next(a.shape[2] for a in arrays.values() if a.ndim == 4)


def _check_ends(
    target: str, to: Target, name: str, arrays: Mapping[str, np.ndarray], classes: int | None
) -> None:
    if _channels(arrays) != 3 and not to.channels:
        raise UserError(
            f"{target}'s networks take three input channels, and these weights have {_channels(arrays)}"
        )
    if classes is None and not to.backbone:
        raise UserError(f"{target}'s networks have a classifier, and these weights have none")
    if classes is not None and name in to.other:
        raise UserError(f"{to.other[name]}; write the weights of a model with include_top=False")


# torchvision and timm

TORCHVISION = {"inception_v1": "googlenet", "inception_v3": "inception_v3"}
RUNNING = ".running_var"
STATE_DICTS = (".safetensors", ".pth", ".pt")


def _state_dict(network: Network, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = torch.torch_names(network)
    state = {names[ours]: torch.flatten(names[ours], array) for ours, array in arrays.items()}
    norms = [name.removesuffix(RUNNING) for name in state if name.endswith(RUNNING)]
    return state | {f"{norm}{torch.COUNTER}": np.array(0, np.int64) for norm in norms}


def _loaded(path: Path) -> str:
    read = "safetensors.torch.load_file" if path.suffix == ".safetensors" else "torch.load"
    return f"{read}({str(path)!r})"


def _write_torchvision(
    path: Path, network: Network, arrays: dict[str, np.ndarray], classes: int | None
) -> str:
    write_state_dict(path, _state_dict(network, arrays))
    aux_logits = any(name.startswith("AuxLogits") for name in arrays)
    return (
        f"torchvision.models.{TORCHVISION[network.name]}(weights=None, num_classes={classes}, aux_logits={aux_logits},"
        f" transform_input=False, init_weights=False).load_state_dict({_loaded(path)})"
    )


def _write_timm(
    path: Path, network: Network, arrays: dict[str, np.ndarray], classes: int | None
) -> str:
    write_state_dict(path, _state_dict(network, arrays))
    channels = _channels(arrays)
    options = "".join(
        (
            f", in_chans={channels}" if channels != 3 else "",
            ", aux_logits=True" if any(name.startswith("AuxLogits") for name in arrays) else "",
        )
    )
    return (
        f"timm.create_model({network.name!r}, num_classes={classes or 0}{options},"
        f" checkpoint_path={str(path)!r})"
    )


# keras.applications

KERAS = {"inception_v3": "InceptionV3", "inception_resnet_v2": "InceptionResNetV2"}


def _write_keras(
    path: Path, network: Network, arrays: dict[str, np.ndarray], classes: int | None
) -> str:
    size, channels = find_network(network.name).size, _channels(arrays)
    head = {"classes": classes} if classes else {"include_top": False}
    shape = (size, size, channels)
    model = getattr(keras.applications, KERAS[network.name])(
        weights=None, input_shape=shape, **head
    )
    theirs = {variable.path: variable for variable in model.weights}
    for ours, name in keras_names(network, theirs).items():
        if name in theirs:
            theirs[name].assign(arrays[ours])
    with atomic_path(path) as unfinished:
        if path.name.endswith(".weights.h5"):
            model.save_weights(unfinished)
        else:
            model.save(unfinished)
    if path.suffix == ".keras":
        return f"keras.models.load_model({str(path)!r})"
    options = "".join(f", {key}={value}" for key, value in head.items())
    options += f", input_shape={shape}" if channels != 3 else ""
    return f"keras.applications.{KERAS[network.name]}(weights={str(path)!r}{options})"


# slim


def _write_slim(
    path: Path, network: Network, arrays: dict[str, np.ndarray], classes: int | None
) -> str:
    names = slim_names(network)
    theirs = {names[ours]: array for ours, array in arrays.items()}
    for name, array in theirs.items():
        if array.ndim == 2 and CONVOLUTION.search(name):
            theirs[name] = array[None, None]
    # Evaluation with slim's scripts restores the step too.
    write_tf1_checkpoint(path, theirs | {"global_step": np.int64(0)})
    return f"tf_slim.assign_from_checkpoint_fn({str(path)!r}, tf_slim.get_model_variables())  # of {classes or 'no'} classes"


CONVOLUTION = re.compile(r"(1x1|/fc8)/weights$")  # classifiers that slim has as 1x1 convolutions
FACENET = (
    "facenet's Inception-ResNet v1 classifies after a bottleneck that this network does not have"
)

TARGETS: dict[str, Target] = {
    "keras": Target(
        {"inception_v3": {}, "inception_resnet_v2": {}},
        (".weights.h5", ".h5", ".keras"),
        _write_keras,
    ),
    "torchvision": Target(
        {"inception_v1": {"torch_padding": True}, "inception_v3": {"count_padding": True}},
        STATE_DICTS,
        _write_torchvision,
        gammas=True,
        auxiliaries=("inception_v1", "inception_v3"),
        channels=False,
        backbone=False,
    ),
    "timm": Target(
        {
            "inception_v3": {"count_padding": True},
            "inception_v4": {},
            "inception_resnet_v2": {},
        },
        STATE_DICTS,
        _write_timm,
        gammas=True,
        auxiliaries=("inception_v3",),
    ),
    "slim": Target(
        {
            "inception_v1": {},
            "inception_v2": {},
            "inception_v3": {},
            "inception_v4": {},
            "inception_resnet_v1": {},
            "inception_resnet_v2": {},
            "alexnet": {},
            "vgg16": {},
        },
        (".ckpt",),
        _write_slim,
        free=("use_separable_conv", "paper", "output_stride", "align_feature_maps"),
        auxiliaries=("inception_v3", "inception_v4", "inception_resnet_v2"),
        other={"inception_resnet_v1": FACENET},
    ),
}
