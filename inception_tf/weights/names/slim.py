# SPDX-License-Identifier: Apache-2.0
"""slim's names as a function of position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inception_tf.arch import spec
from inception_tf.arch.spec import LayerSpec, Network
from inception_tf.errors import UserError, unknown
from inception_tf.models import variant
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.tf1_checkpoint import (
    BATCH_NORM,
)

__all__ = ["names", "network_of"]


@dataclass(frozen=True)
class Slim:
    """What position does not say of one network in slim."""

    scope: str
    logits: str
    auxiliary_logits: str = ""
    lone_1x1: str = ""  # of a branch that is one 1x1 convolution, where it has a name of its own
    scopes: Mapping[str, str] = field(default_factory=dict)  # our endpoint → slim's scope
    misprints: Mapping[str, str] = field(default_factory=dict)  # our place → slim's layer
    variants: tuple[Mapping, ...] = ({},)  # switches under which the layers differ
    other_head: tuple[str, ...] = ()  # variables of a classifier of another form than ours


def repeated(scope: str, block: str, count: int) -> dict[str, str]:
    """The scopes of slim's `repeat`: `Block35_1` → `Repeat/block35_1`."""
    names = (f"{block}_{number}" for number in range(1, count + 1))
    return {name: f"{scope}/{name.lower()}" for name in names}


NETWORKS_OF_SLIM = {
    "inception_v1": Slim(
        scope="InceptionV1",
        logits="Logits/Conv2d_0c_1x1",
        misprints={"Mixed_5b_b2_1": "Conv2d_0a_3x3"},  # the second of its branch
    ),
    "inception_v2": Slim(
        scope="InceptionV2",
        logits="Logits/Conv2d_1c_1x1",
        variants=({}, {"use_separable_conv": False}),
    ),
    "inception_v3": Slim(
        scope="InceptionV3",
        logits="Logits/Conv2d_1c_1x1",
        auxiliary_logits="AuxLogits/Conv2d_2b_1x1",
        misprints={
            "Mixed_5c_b1_0": "Conv2d_0b_1x1",
            "Mixed_5c_b1_1": "Conv_1_0c_5x5",
            "Mixed_6a_b0_0": "Conv2d_1a_1x1",  # 3x3
            "Mixed_6a_b1_2": "Conv2d_1a_1x1",  # 3x3
            "Mixed_7b_b1_1_b1_0": "Conv2d_0b_3x1",  # 0c, as in Mixed_7c
        },
    ),
    "inception_v4": Slim(
        scope="InceptionV4",
        logits="Logits/Logits",
        auxiliary_logits="AuxLogits/Aux_logits",
        misprints={
            "Mixed_3a_b1_0": "Conv2d_0a_3x3",  # stride 2
            "Mixed_4a_b0_1": "Conv2d_1a_3x3",  # stride 1, but a smaller grid
            "Mixed_4a_b1_3": "Conv2d_1a_3x3",
            "AuxLogits_Conv2d_2a_5x5": "Conv2d_2a",
        },
    ),
    # facenet's files classify behind a bottleneck of their own; with a classifier as slim's v2 has it,
    # the name would be this one.
    "inception_resnet_v1": Slim(
        scope="InceptionResnetV1",
        logits="Logits/Logits",
        lone_1x1="Conv2d_1x1",
        scopes=repeated("Repeat", "Block35", 5)
        | repeated("Repeat_1", "Block17", 10)
        | repeated("Repeat_2", "Block8", 5)
        | {"Block8_6": "Block8"},
        variants=({}, {"paper": True}),
        other_head=(
            *(
                f"{scope}Bottleneck/{kind}"
                for scope in ("InceptionResnetV1/", "")  # its newer trainer, its older one
                for kind in ("weights", *(f"BatchNorm/{kind}" for kind in BATCH_NORM))
            ),
            "Logits/weights",
            "Logits/biases",
        ),
    ),
    "inception_resnet_v2": Slim(
        scope="InceptionResnetV2",
        logits="Logits/Logits",
        auxiliary_logits="AuxLogits/Logits",
        lone_1x1="Conv2d_1x1",
        scopes=repeated("Repeat", "Block35", 10)
        | repeated("Repeat_1", "Block17", 19)
        | {"PreAuxLogits": "Repeat_1/block17_20"}
        | repeated("Repeat_2", "Block8", 9)
        | {"Block8_10": "Block8"},
        misprints={  # with output_stride=8 they have stride 1 and keep their names
            "Mixed_6a_b0_0": "Conv2d_1a_3x3",
            "Mixed_6a_b1_2": "Conv2d_1a_3x3",
        },
        variants=({}, {"output_stride": 8}),
    ),
    "alexnet": Slim(scope="alexnet_v2", logits="fc8"),
    "vgg16": Slim(
        scope="vgg_16",
        logits="fc8",
        scopes={
            f"conv{block}_{number}": f"conv{block}/conv{block}_{number}"
            for block, count in enumerate((2, 2, 3, 3, 3), start=1)
            for number in range(1, count + 1)
        },
    ),
}


def names(network: Network, aux_logits: bool = True) -> dict[str, str]:
    """Our variable path → slim's variable name, in the order in which slim creates them."""
    if network.name not in NETWORKS_OF_SLIM:
        raise unknown("network of slim", network.name, NETWORKS_OF_SLIM)
    slim = NETWORKS_OF_SLIM[network.name]
    found = {}
    for name, step in network.backbone:
        for place, layer in _convolutions(name, step, slim):
            found |= _convolution(place, f"{slim.scope}/{layer}", network.batch_norm)
    if aux_logits:
        for auxiliary in network.auxiliaries:
            for name, step in auxiliary.steps:
                place = spec.LayerSpec(f"{auxiliary.name}_{name}", auxiliary.name, (), step)
                if isinstance(step, spec.Conv):
                    layer = slim.misprints.get(place.name, name)
                    layer = f"{slim.scope}/{auxiliary.name}/{layer}"
                    found |= _convolution(place, layer, network.batch_norm)
            found |= _dense(auxiliary.name, f"{slim.scope}/{slim.auxiliary_logits}")
    found |= _dense(LOGITS, f"{slim.scope}/{slim.logits}")
    return found | {f"{LOGITS}/{theirs}": theirs for theirs in slim.other_head}


def _convolutions(name: str, step: spec.Step, slim: Slim) -> Iterator[tuple[LayerSpec, str]]:
    """`Mixed_5b/Branch_1/Conv2d_0b_5x5`: strides so far, letter by order since then, kernel."""
    scope = slim.scopes.get(name, name)
    at = (None, 0, 0)  # branch, strides so far, steps since
    for place in spec.iter_layers(name, step):
        layer = scope
        if place.step is spec.UP:
            layer = f"{scope}/Conv2d_1x1"
        elif place.path:
            branch, strides, since = at if at[0] == place.path[0] else (place.path[0], 0, 0)
            if place.step.stride > 1:
                strides, since = strides + 1, 0
            at = (branch, strides, since + 1)
            height, width = place.step.window
            layer = f"Conv2d_{strides}{'abcdefgh'[since]}_{height}x{width}"
            if slim.lone_1x1 and _is_lone_1x1(step.branches[branch]):
                layer = slim.lone_1x1
            layer = f"{scope}/Branch_{branch}/{slim.misprints.get(place.name, layer)}"
        if isinstance(place.step, spec.Conv | spec.Separable):
            yield place, layer


def _is_lone_1x1(branch: spec.Branch) -> bool:
    return len(branch) == 1 and isinstance(branch[0], spec.Conv) and branch[0].window == (1, 1)


def _convolution(place: LayerSpec, layer: str, batch_norm: bool) -> dict[str, str]:
    if isinstance(place.step, spec.Separable):
        return {
            f"{place.name}_conv/{part}_kernel": f"{layer}/{part}_weights"
            for part in ("depthwise", "pointwise")
        } | {f"{place.name}_conv/bias": f"{layer}/biases"}
    if place.step.linear or not batch_norm:
        return _dense(f"{place.name}_conv", layer)
    return {f"{place.name}_conv/kernel": f"{layer}/weights"} | {
        f"{place.name}_bn/{kind}": f"{layer}/BatchNorm/{kind}" for kind in BATCH_NORM
    }


def _dense(name: str, layer: str) -> dict[str, str]:
    return {f"{name}/kernel": f"{layer}/weights", f"{name}/bias": f"{layer}/biases"}


def network_of(model) -> Network:
    """The network of slim that `model` was built from, known by its layers' names."""
    layers = {layer.name for layer in model.layers}
    fitting = {}
    for name, slim in NETWORKS_OF_SLIM.items():
        for switches in slim.variants:
            network = variant(name, **switches)
            body = {path.split("/")[0] for path in names(network, aux_logits=False)} - {LOGITS}
            if body <= layers:
                fitting[len(body)] = network
    if fitting:  # a variant may be the beginning of another: the one that explains most layers
        return fitting[max(fitting)]
    raise UserError(
        f"model '{model.name}' is none of slim's networks; known: {', '.join(NETWORKS_OF_SLIM)};"
        " create one of these"
    )
