# SPDX-License-Identifier: Apache-2.0
"""A network's table into a functional `keras.Model`: body, head, auxiliary classifiers, endpoints."""

from __future__ import annotations

import keras

from inception_tf.arch import spec
from inception_tf.arch.spec import Auxiliary, Network
from inception_tf.errors import UserError, unknown
from inception_tf.models import NETWORKS
from inception_tf.nn import builder
from inception_tf.nn.builder import LayerConfig
from inception_tf.ranges import ABOVE_0, AT_LEAST_0, FRACTION

__all__ = ["build", "endpoints"]

# slim's names of what follows the last grid.
GLOBAL_POOL, PRE_LOGITS, LOGITS, PREDICTIONS = "global_pool", "PreLogits", "Logits", "Predictions"
HIDDEN_NORM = "Hidden_bn"


def build(
    network: Network,
    *,
    include_top: bool = True,
    input_tensor=None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    aux_logits: bool = False,
    dropout: float | None = None,
    **layer_config,
) -> keras.Model:
    """A functional model of `network`; `applications.py` says what each argument means."""
    _check(network, include_top, pooling, classes, aux_logits, dropout)
    _check_layers(classifier_activation, name, layer_config)
    image = _image(network, include_top, input_tensor, input_shape)
    layer_config = LayerConfig(
        initializer_stddev=network.initializer_stddev, batch_norm=network.batch_norm, **layer_config
    )

    x, ends = image, {}
    for step_name, step in network.body:
        x = ends[step_name] = builder.apply(x, step, step_name, layer_config)

    if include_top:
        x = builder.pooled(x, "avg", GLOBAL_POOL)
        if network.hidden_batch_norm:
            x = builder.normalized(x, HIDDEN_NORM, layer_config, "float32")
        rate = network.dropout if dropout is None else dropout
        x = keras.layers.Dropout(rate, dtype="float32", name=PRE_LOGITS)(x)
        x = builder.classifier(
            x, classes, classifier_activation, layer_config, logits=LOGITS, output=PREDICTIONS
        )
        if aux_logits:
            x = {"predictions": x} | {
                auxiliary.output: _auxiliary(
                    ends[auxiliary.after], auxiliary, classes, classifier_activation, layer_config
                )
                for auxiliary in network.auxiliaries
            }
    elif pooling:
        x = builder.pooled(x, pooling, GLOBAL_POOL)

    return keras.Model(_source(image), x, name=name or network.name)


def _auxiliary(x, auxiliary, classes, activation, layer_config):
    for name, step in auxiliary.steps:
        step = spec.shrunk(step, x.shape[1], x.shape[2])
        x = builder.apply(x, step, f"{auxiliary.name}_{name}", layer_config)
    # One place at the published size; at larger sizes the mean over the places that are left.
    x = builder.pooled(x, "avg", f"{auxiliary.name}_pool")
    if auxiliary.dropout:
        x = keras.layers.Dropout(
            auxiliary.dropout, dtype="float32", name=f"{auxiliary.name}_dropout"
        )(x)
    return builder.classifier(
        x,
        classes,
        activation,
        layer_config,
        logits=auxiliary.name,
        output=predictions_of(auxiliary),
        stddev=auxiliary.logits_stddev,
    )


def predictions_of(auxiliary: Auxiliary) -> str:
    """The endpoint of an auxiliary classifier's probabilities: `AuxLogits` → `AuxPredictions`."""
    return auxiliary.name.replace("Logits", "Predictions")


def _image(network, include_top, input_tensor, input_shape):
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


def _source(tensor):
    """The input that a Keras tensor comes from, itself where it is one; a list where there are several."""
    sources = keras.utils.get_source_inputs(tensor)
    return sources[0] if len(sources) == 1 else sources


def _check_size(network, shape):
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 1:
        raise UserError(
            f"input_shape must be (height, width, channels) with a known number of channels, got {shape}"
        )
    if any(side is not None and side < network.minimum for side in shape[:2]):
        raise UserError(
            f"{network.name} needs images of at least {network.minimum}x{network.minimum} pixels,"
            f" got {shape[0]}x{shape[1]}"
        )


def _check(network, include_top, pooling, classes, aux_logits, dropout):
    if pooling not in (None, "avg", "max"):
        raise UserError(f"pooling must be None, 'avg' or 'max', got {pooling!r}")
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise UserError(f"classes must be an integer of at least 1, got {classes!r}")
    if dropout is not None:
        FRACTION.check("dropout", dropout)
    if include_top and network.body_only:
        raise UserError(
            f"this form of {network.name} ends at {network.body[-1][0]}, before the classifier; take include_top=False"
        )
    if aux_logits and not network.auxiliaries:
        raise UserError(
            f"{network.name} has no auxiliary classifier; leave out aux_logits, or take "
            + " or ".join(n.name for n in NETWORKS.values() if n.auxiliaries)
        )
    if aux_logits and not include_top:
        raise UserError(
            "aux_logits needs include_top=True: the auxiliary classifier is part of the top"
        )


# Of the arguments that reach every layer: what each number may be.
RANGES = {
    "batch_norm_momentum": FRACTION,
    "batch_norm_epsilon": ABOVE_0,
    "weight_decay": AT_LEAST_0,
    "initializer_gain": ABOVE_0,
    "width_multiplier": ABOVE_0,
}
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")


def _check_layers(classifier_activation, name, layer_config: dict) -> None:
    for argument, allowed in RANGES.items():
        if argument in layer_config:
            allowed.check(argument, layer_config[argument])
    _check_activation("activation", layer_config.get("activation", "relu"))
    _check_activation("classifier_activation", classifier_activation)
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise UserError(f"name must be a string without '/', got {name!r}")
    dtype = layer_config.get("dtype")
    if isinstance(dtype, str):
        try:
            keras.dtype_policies.get(dtype)
        except (ValueError, TypeError) as error:
            raise unknown("dtype", dtype, POLICIES) from error


def _check_activation(argument: str, value) -> None:
    if isinstance(value, str):
        try:
            keras.activations.get(value)
        except ValueError as error:
            names = [n for n in dir(keras.activations) if n.islower() and not n.startswith("_")]
            known = [n for n in names if n not in ("get", "serialize", "deserialize")]
            raise unknown(argument, value, known) from error
    elif value is not None and not callable(value):
        raise UserError(f"{argument} must be a name, a function or None, got {value!r}")


def endpoints(model: keras.Model) -> dict[str, object]:
    """The named stages of one of this package's models, `{name: KerasTensor}` in the order of the network.

    Names are slim's: `Conv2d_1a_7x7`, `Mixed_5b`, ..., `global_pool`, `PreLogits`, `Logits`,
    `Predictions`, `AuxLogits`.  Works on loaded and cloned models as well, and gives what
    `keras.Model(model.input, endpoints(model)["Mixed_6e"])` needs.
    """
    known = {GLOBAL_POOL, PRE_LOGITS, LOGITS, PREDICTIONS}
    for network in NETWORKS.values():
        known.update(name for name, _ in network.body)
        for auxiliary in network.auxiliaries:
            known.update((auxiliary.name, predictions_of(auxiliary)))
    found = {layer.name: layer.output for layer in model.layers if layer.name in known}
    if not found:
        raise UserError(
            f"model '{model.name}' has no endpoints: it was not built by inception_tf.create_model"
        )
    return found
