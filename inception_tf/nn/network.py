# SPDX-License-Identifier: Apache-2.0
"""A network's table as a functional `keras.Model`: backbone, head, auxiliary classifiers, endpoints."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import keras

from inception_tf.arch import spec
from inception_tf.arch.spec import AdaptivePool, Auxiliary, Network
from inception_tf.errors import UserError, unknown
from inception_tf.models import NETWORKS
from inception_tf.nn import builder
from inception_tf.nn.auxiliary import ModelWithAuxiliaries
from inception_tf.nn.builder import LayerConfig
from inception_tf.nn.keras_internals import layers_of
from inception_tf.nn.placement import initialized_on_host
from inception_tf.ranges import ABOVE_0, AT_LEAST_0, FRACTION_BELOW_1

__all__ = [
    "HIDDEN_NORM",
    "LOGITS",
    "build_model",
    "check_not_wrapped",
    "endpoints",
    "gives_several_classes",
    "is_network",
]

InputShape = tuple[int | None, int | None, int]  # height, width, channels

# slim's names of the layers after the final feature map.
GLOBAL_POOL, PRE_LOGITS, LOGITS, PREDICTIONS = "global_pool", "PreLogits", "Logits", "Predictions"
HIDDEN_NORM = "Hidden_bn"


@initialized_on_host
def build_model(
    network: Network,
    *,
    include_top: bool = True,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: InputShape | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    aux_logits: bool = False,
    dropout: float | None = None,
    **layer_arguments: Any,
) -> keras.Model:
    """A functional model of a network, without its weights.

    Args:
        network: The network's table.
        include_top, input_tensor, input_shape, pooling: As in `applications.create_model`.
        classes, classifier_activation, name, aux_logits, dropout: As in `applications.create_model`.
        **layer_arguments: `activation`, `weight_decay` and other fields of `LayerConfig`.

    Returns:
        The model, as `applications.create_model` describes it.

    Raises:
        UserError: An argument is out of range, or does not apply to this network.
    """
    _check(network, include_top, pooling, classes, aux_logits, dropout)
    _check_layer_arguments(classifier_activation, name, layer_arguments)
    image = _image(network, include_top, input_tensor, input_shape)
    layer_config = LayerConfig(
        initializer=network.initializer,
        bias=network.bias,
        decays_biases=network.decays_biases,
        batch_norm=network.batch_norm,
        batch_norm_scale=network.batch_norm_scale,
        **layer_arguments,
    )

    x = image
    ends: dict[str, keras.KerasTensor] = {}
    for step_name, step in network.backbone:
        x = ends[step_name] = builder.apply_step(x, step, step_name, layer_config)

    if include_top:
        x = builder.global_pool(x, "avg", GLOBAL_POOL)
        if network.hidden_batch_norm:
            x = builder.apply_batch_norm(x, HIDDEN_NORM, layer_config, "float32")
        rate = network.dropout if dropout is None else dropout
        x = keras.layers.Dropout(rate, dtype="float32", name=PRE_LOGITS)(x)
        x = builder.classifier_head(
            x,
            classes,
            classifier_activation,
            layer_config,
            logits=LOGITS,
            output=PREDICTIONS,
            initializer=network.logits_initializer,
        )
        if aux_logits:
            x = {"predictions": x} | {
                auxiliary.output: _auxiliary(
                    ends[auxiliary.after],
                    auxiliary,
                    classes,
                    classifier_activation,
                    layer_config,
                    auxiliary.logits_stddev or network.logits_initializer,
                )
                for auxiliary in network.auxiliaries
            }
    elif pooling:
        x = builder.global_pool(x, pooling, GLOBAL_POOL)

    model_class = ModelWithAuxiliaries if isinstance(x, dict) else keras.Model
    return model_class(_source(image), x, name=name or network.name)


def _auxiliary(
    x: keras.KerasTensor,
    auxiliary: Auxiliary,
    classes: int,
    activation: str | Callable | None,
    layer_config: LayerConfig,
    initializer: spec.Initializer,
) -> keras.KerasTensor:
    for name, step in auxiliary.steps:
        if isinstance(step, AdaptivePool) and None in x.shape[1:3]:
            raise UserError(
                f"the auxiliary classifier {auxiliary.name} pools to {step.size}x{step.size}, which needs a known height"
                " and width; give input_shape, or omit aux_logits"
            )
        step = spec.shrink_window(step, x.shape[1], x.shape[2])
        x = builder.apply_step(x, step, f"{auxiliary.name}_{name}", layer_config)
    # 1x1 at the published size; at larger sizes the mean over the remaining feature map.
    x = builder.global_pool(x, "avg", f"{auxiliary.name}_pool")
    if auxiliary.dropout:
        x = keras.layers.Dropout(
            auxiliary.dropout, dtype="float32", name=f"{auxiliary.name}_dropout"
        )(x)
    return builder.classifier_head(
        x,
        classes,
        activation,
        layer_config,
        logits=auxiliary.name,
        output=_auxiliary_predictions(auxiliary),
        initializer=initializer,
    )


def _auxiliary_predictions(auxiliary: Auxiliary) -> str:
    """The endpoint of an auxiliary classifier's probabilities: `AuxLogits` → `AuxPredictions`."""
    return auxiliary.name.replace("Logits", "Predictions")


def _image(
    network: Network,
    include_top: bool,
    input_tensor: keras.KerasTensor | None,
    input_shape: InputShape | None,
) -> keras.KerasTensor:
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise UserError("input_tensor must be a Keras tensor, such as keras.Input(shape=...)")
        _check_size(network, tuple(input_tensor.shape[1:]))
        return input_tensor
    if input_shape is None:
        side = network.size if include_top else None
        input_shape = (side, side, 3)
    _check_size(network, tuple(input_shape))
    return keras.Input(shape=input_shape, name="images")


def _source(tensor: keras.KerasTensor) -> keras.KerasTensor | list[keras.KerasTensor]:
    """The input that a Keras tensor was computed from, or a list of several; the tensor itself if it is an input."""
    sources = keras.utils.get_source_inputs(tensor)
    return sources[0] if len(sources) == 1 else sources


def _check_size(network: Network, shape: tuple[int | None, ...]) -> None:
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 1:
        raise UserError(
            f"input_shape must be (height, width, channels) with a known number of channels, got {shape}"
        )
    if any(side is not None and side < network.min_size for side in shape[:2]):
        raise UserError(
            f"{network.name} needs images of at least {network.min_size}x{network.min_size} pixels,"
            f" got {shape[0]}x{shape[1]}"
        )


def _check(
    network: Network,
    include_top: bool,
    pooling: str | None,
    classes: int,
    aux_logits: bool,
    dropout: float | None,
) -> None:
    if pooling not in (None, "avg", "max"):
        raise UserError(f"pooling must be None, 'avg' or 'max', got {pooling!r}")
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise UserError(f"classes must be an integer of at least 1, got {classes!r}")
    if dropout is not None:
        FRACTION_BELOW_1.check("dropout", dropout)
    if include_top and network.backbone_only:
        raise UserError(
            f"this form of {network.name} ends at {network.backbone[-1][0]}, before the classifier; use include_top=False"
        )
    if aux_logits and not network.auxiliaries:
        raise UserError(
            f"{network.name} has no auxiliary classifier; omit aux_logits, or use "
            + " or ".join(n.name for n in NETWORKS.values() if n.auxiliaries)
        )
    if aux_logits and not include_top:
        raise UserError(
            "aux_logits needs include_top=True: the auxiliary classifier is part of the top"
        )


# Allowed values of the numeric arguments that apply to every layer.
RANGES = {
    "batch_norm_momentum": FRACTION_BELOW_1,
    "batch_norm_epsilon": ABOVE_0,
    "weight_decay": AT_LEAST_0,
    "initializer_gain": ABOVE_0,
    "width_multiplier": ABOVE_0,
}
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")


def _check_layer_arguments(
    classifier_activation: str | Callable | None, name: str | None, layer_arguments: dict[str, Any]
) -> None:
    for argument, allowed in RANGES.items():
        if argument in layer_arguments:
            allowed.check(argument, layer_arguments[argument])
    _check_activation("activation", layer_arguments.get("activation", "relu"))
    _check_activation("classifier_activation", classifier_activation)
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise UserError(f"name must be a string without '/', got {name!r}")
    dtype = layer_arguments.get("dtype")
    if isinstance(dtype, str):
        try:
            keras.dtype_policies.get(dtype)
        except (ValueError, TypeError) as error:
            raise unknown("dtype", dtype, POLICIES) from error


def _check_activation(argument: str, value: object) -> None:
    if isinstance(value, str):
        try:
            keras.activations.get(value)
        except ValueError as error:
            names = [n for n in dir(keras.activations) if n.islower() and not n.startswith("_")]
            known = [n for n in names if n not in ("get", "serialize", "deserialize")]
            raise unknown(argument, value, known) from error
    elif value is not None and not callable(value):
        raise UserError(f"{argument} must be a name, a function or None, got {value!r}")


def endpoints(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The named intermediate tensors of one of this package's models.

    Names are slim's: `Conv2d_1a_7x7`, `Mixed_5b`, ..., `global_pool`, `PreLogits`, `Logits`,
    `Predictions`, `AuxLogits`.  Where slim or facenet have another name for one of these tensors, such
    as `PreLogitsFlatten` in V4 and the Inception-ResNets, `Mixed_6b` for facenet's last `Block17`, or
    `fc8` in the baselines, it is there under both names.

    Args:
        model: A model of `create_model`, also after loading or cloning.

    Returns:
        Endpoint → symbolic tensor, in the order of the network.

    Raises:
        UserError: The model has no layer with such a name.

    Example:
        >>> model = inception_tf.create_model("inception_v3")
        >>> features = keras.Model(model.input, inception_tf.endpoints(model)["Mixed_6e"])
        >>> features.output.shape
        (None, 17, 17, 768)
    """
    check_not_wrapped(model, "it has endpoints")
    found = _endpoints(model)
    if not found:
        raise UserError(
            f"model '{model.name}' has no endpoints: it was not built by inception_tf.create_model"
        )
    return found


def is_network(model: keras.Model) -> bool:
    """Tells whether a model is one of this package's, by the names of its layers.

    Args:
        model: Any model.

    Returns:
        False where `endpoints` finds none, neither in it nor in a model inside it.
    """
    return any(
        isinstance(one, keras.Model) and bool(_endpoints(one)) for one in (model, *layers_of(model))
    )


def _endpoints(model: keras.Model) -> dict[str, keras.KerasTensor]:
    known = {GLOBAL_POOL, PRE_LOGITS, LOGITS, PREDICTIONS}
    for network in NETWORKS.values():
        known.update(name for name, _ in network.backbone)
        for auxiliary in network.auxiliaries:
            known.update((auxiliary.name, _auxiliary_predictions(auxiliary)))
    layers = {layer.name for layer in model.layers}
    further: dict[str, list[str]] = {}
    for alias, name in _aliases(layers):
        if alias not in layers:
            further.setdefault(name, []).append(alias)
    return {
        name: layer.output
        for layer in model.layers
        if layer.name in known
        for name in (layer.name, *further.get(layer.name, ()))
    }


def _aliases(layers: set[str]) -> tuple[tuple[str, str], ...]:
    """Of the network whose stem a model has, and most of its endpoints: it may be a variant, or cut off by a user."""
    fits: dict[int, Network] = {}
    for network in reversed(NETWORKS.values()):
        ends = [name for name, _ in network.backbone]
        stem = itertools.takewhile(lambda name: not name.startswith(("Mixed", "Block")), ends)
        if layers.issuperset(stem):
            fits[2 * len(layers.intersection(ends)) - len(ends)] = network
    return fits[max(fits)].aliases if fits else ()


def gives_several_classes(model: keras.Model) -> bool:
    """Tells whether a classifier's classes are independent: its output is that of a sigmoid.

    Args:
        model: A functional model with one output, or with `predictions` among them.

    Returns:
        False for a softmax, and for anything else, models without an output that is known included.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:  # a subclass of Keras' model, or a Sequential without an input
        return False
    # A Sequential has `outputs` alone.
    several = len(outputs) > 1 and isinstance(model.output, dict)
    output = model.output["predictions"] if several else outputs[0]
    last = next((layer for layer in reversed(model.layers) if layer.output is output), None)
    return getattr(last, "activation", None) is keras.activations.sigmoid


def check_not_wrapped(model: keras.Model, reason: str) -> None:
    """Check that a model is not another one with a network of this package inside.

    Args:
        model: The model.
        reason: str. What the network has that the model lacks, for the error.

    Raises:
        UserError: It is; the error names the network inside.
    """
    if _endpoints(model):
        return
    for layer in layers_of(model):
        if isinstance(layer, keras.Model) and _endpoints(layer):
            raise UserError(
                f"model '{model.name}' contains the network '{layer.name}', and {reason}; give that model, such as"
                f" model.get_layer('{layer.name}'), instead"
            )
