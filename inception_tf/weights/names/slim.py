# SPDX-License-Identifier: Apache-2.0
"""slim's variable names as a function of position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inception_tf.arch import spec
from inception_tf.arch.spec import LayerSpec, Network
from inception_tf.errors import UserError, unknown
from inception_tf.models import variant
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.tf1_checkpoint import BATCH_NORM, GAMMA

if TYPE_CHECKING:
    import keras

__all__ = ["NETWORKS_OF_SLIM", "SlimNames", "identify_slim_network", "slim_names"]


@dataclass(frozen=True)
class SlimNames:
    """What does not follow from position in slim's names of one network."""

    scope: str
    logits: str
    auxiliary_logits: str = ""
    lone_1x1: str = ""  # of a branch that is a single 1x1 convolution, if it has a special name
    scopes: Mapping[str, str] = field(default_factory=dict)  # our endpoint → slim's scope
    misprints: Mapping[str, str] = field(default_factory=dict)  # our layer → slim's layer
    variants: tuple[dict[str, Any], ...] = ({},)  # switches that change the layers
    other_head: tuple[str, ...] = ()  # variables of a classifier with another structure than ours


def _repeated(scope: str, block: str, count: int) -> dict[str, str]:
    """The scopes of slim's `repeat`: `Block35_1` → `Repeat/block35_1`."""
    names = (f"{block}_{number}" for number in range(1, count + 1))
    return {name: f"{scope}/{name.lower()}" for name in names}


NETWORKS_OF_SLIM = {
    "inception_v1": SlimNames(
        scope="InceptionV1",
        logits="Logits/Conv2d_0c_1x1",
        misprints={"Mixed_5b_b2_1": "Conv2d_0a_3x3"},  # the second of its branch
    ),
    "inception_v2": SlimNames(
        scope="InceptionV2",
        logits="Logits/Conv2d_1c_1x1",
        variants=({}, {"use_separable_conv": False}),
    ),
    "inception_v3": SlimNames(
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
    "inception_v4": SlimNames(
        scope="InceptionV4",
        logits="Logits/Logits",
        auxiliary_logits="AuxLogits/Aux_logits",
        misprints={
            "Mixed_3a_b1_0": "Conv2d_0a_3x3",  # stride 2
            "Mixed_4a_b0_1": "Conv2d_1a_3x3",  # stride 1, but a smaller feature map
            "Mixed_4a_b1_3": "Conv2d_1a_3x3",
            "AuxLogits_Conv2d_2a_5x5": "Conv2d_2a",
        },
    ),
    # facenet's files classify after a bottleneck; with the classifier of slim's v2, the name would be this.
    "inception_resnet_v1": SlimNames(
        scope="InceptionResnetV1",
        logits="Logits/Logits",
        lone_1x1="Conv2d_1x1",
        scopes=_repeated("Repeat", "Block35", 5)
        | _repeated("Repeat_1", "Block17", 10)
        | _repeated("Repeat_2", "Block8", 5)
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
    "inception_resnet_v2": SlimNames(
        scope="InceptionResnetV2",
        logits="Logits/Logits",
        auxiliary_logits="AuxLogits/Logits",
        lone_1x1="Conv2d_1x1",
        scopes=_repeated("Repeat", "Block35", 10)
        | _repeated("Repeat_1", "Block17", 19)
        | {"PreAuxLogits": "Repeat_1/block17_20"}
        | _repeated("Repeat_2", "Block8", 9)
        | {"Block8_10": "Block8"},
        misprints={  # with output_stride=8 they have stride 1 and keep their names
            "Mixed_6a_b0_0": "Conv2d_1a_3x3",
            "Mixed_6a_b1_2": "Conv2d_1a_3x3",
        },
        variants=({}, {"output_stride": 8}),
    ),
    "alexnet": SlimNames(scope="alexnet_v2", logits="fc8"),
    "vgg16": SlimNames(
        scope="vgg_16",
        logits="fc8",
        scopes={
            f"conv{block}_{number}": f"conv{block}/conv{block}_{number}"
            for block, count in enumerate((2, 2, 3, 3, 3), start=1)
            for number in range(1, count + 1)
        },
    ),
}


def slim_names(network: Network, aux_logits: bool = True) -> dict[str, str]:
    """The names of a network's variables in slim, in the order in which slim creates them.

    Args:
        network: The network.
        aux_logits: bool. Include the auxiliary classifiers.

    Returns:
        Our variable path → slim's variable name.

    Raises:
        UserError: slim has no such network.
    """
    if network.name not in NETWORKS_OF_SLIM:
        raise unknown("network of slim", network.name, NETWORKS_OF_SLIM)
    slim = NETWORKS_OF_SLIM[network.name]
    found: dict[str, str] = {}
    for name, step in network.backbone:
        for layer, theirs in _convolutions(name, step, slim):
            found |= _convolution(layer, f"{slim.scope}/{theirs}", network)
    if aux_logits:
        for auxiliary in network.auxiliaries:
            for name, step in auxiliary.steps:
                if isinstance(step, spec.Conv):
                    layer = LayerSpec(f"{auxiliary.name}_{name}", auxiliary.name, (), step)
                    theirs = slim.misprints.get(layer.name, name)
                    theirs = f"{slim.scope}/{auxiliary.name}/{theirs}"
                    found |= _convolution(layer, theirs, network)
            found |= _dense(auxiliary.name, f"{slim.scope}/{slim.auxiliary_logits}")
    found |= _dense(LOGITS, f"{slim.scope}/{slim.logits}")
    return found | {f"{LOGITS}/{theirs}": theirs for theirs in slim.other_head}


WINDOWED = (spec.Conv, spec.Separable, spec.Pool)


def _convolutions(name: str, step: spec.Step, slim: SlimNames) -> Iterator[tuple[LayerSpec, str]]:
    """`Mixed_5b/Branch_1/Conv2d_0b_5x5`: strides so far, letter by order since then, kernel."""
    scope = slim.scopes.get(name, name)
    at = (-1, 0, 0)  # branch, strides so far, steps since
    for layer in spec.iter_layers(name, step):
        theirs = scope
        if layer.step is spec.UP:
            theirs = f"{scope}/Conv2d_1x1"
        elif isinstance(step, spec.Fork | spec.Residual) and isinstance(layer.step, WINDOWED):
            branch, strides, since = at if at[0] == layer.path[0] else (layer.path[0], 0, 0)
            if layer.step.stride > 1:
                strides, since = strides + 1, 0
            at = (branch, strides, since + 1)
            height, width = layer.step.window
            theirs = f"Conv2d_{strides}{'abcdefgh'[since]}_{height}x{width}"
            if slim.lone_1x1 and _is_lone_1x1(step.branches[branch]):
                theirs = slim.lone_1x1
            theirs = f"{scope}/Branch_{branch}/{slim.misprints.get(layer.name, theirs)}"
        if isinstance(layer.step, spec.Conv | spec.Separable):
            yield layer, theirs


def _is_lone_1x1(branch: spec.Branch) -> bool:
    return len(branch) == 1 and isinstance(branch[0], spec.Conv) and branch[0].window == (1, 1)


def _convolution(layer: LayerSpec, theirs: str, network: Network) -> dict[str, str]:
    if isinstance(layer.step, spec.Separable):
        return {
            f"{layer.name}_conv/{part}_kernel": f"{theirs}/{part}_weights"
            for part in ("depthwise", "pointwise")
        } | {f"{layer.name}_conv/bias": f"{theirs}/biases"}
    is_linear = isinstance(layer.step, spec.Conv) and layer.step.has_bias
    if is_linear or not network.batch_norm:
        return _dense(f"{layer.name}_conv", theirs)
    kinds = (GAMMA, *BATCH_NORM) if network.batch_norm_scale else BATCH_NORM
    return {f"{layer.name}_conv/kernel": f"{theirs}/weights"} | {
        f"{layer.name}_bn/{kind}": f"{theirs}/BatchNorm/{kind}" for kind in kinds
    }


def _dense(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}/kernel": f"{theirs}/weights", f"{ours}/bias": f"{theirs}/biases"}


def identify_slim_network(model: keras.Model) -> Network:
    """The network and variant that a model was built from, by its layers' names.

    Args:
        model: A model of this package.

    Returns:
        The table.

    Raises:
        UserError: The model is not one of slim's networks.
    """
    layers = {layer.name for layer in model.layers}
    fitting = {}
    for name, slim in NETWORKS_OF_SLIM.items():
        for switches in slim.variants:
            network = variant(name, **switches)
            backbone = {path.split("/")[0] for path in slim_names(network, aux_logits=False)}
            backbone -= {LOGITS}
            if backbone <= layers:
                fitting[len(backbone)] = network
    if fitting:  # one variant may be a prefix of another: the one that accounts for most layers
        return fitting[max(fitting)]
    raise UserError(
        f"model '{model.name}' is not one of slim's networks; known: {', '.join(NETWORKS_OF_SLIM)};"
        " create one of these"
    )
