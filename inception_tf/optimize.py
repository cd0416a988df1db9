# SPDX-License-Identifier: Apache-2.0
"""A trained model into an equivalent one that has less to compute."""

from __future__ import annotations

import keras
import numpy as np

__all__ = ["PRECISIONS", "fold_batch_norm", "in_precision"]

PRECISIONS = ("float32", "bfloat16", "float16")

FOLDABLE = (keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Dense)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A copy of a functional model for inference, its batch normalizations inside the convolutions before them.

    kernel' = kernel * s and bias' = (bias - mean) * s + beta, with s = gamma / sqrt(variance + epsilon) a
    channel, computed in float64: Ioffe and Szegedy 2015, Algorithm 2, line 11, with the linear map before
    it.  Probabilities stay within 1e-4.  A normalization that does not directly follow a convolution or
    a dense layer of its own is left as it is.  Layers keep their names.
    """
    folded = {norm.name: layer for norm in model.layers if (layer := _before(norm, model))}
    biased = {layer.name for layer in folded.values()}

    def copy(layer):
        config = layer.get_config()
        if layer.name in biased:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer, *arguments, **options):
        return arguments[0] if layer.name in folded else layer(*arguments, **options)

    result = keras.models.clone_model(model, call_function=call, clone_function=copy)
    for layer in result.layers:
        if layer.weights and layer.name not in biased:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    for norm, layer in folded.items():
        result.get_layer(layer.name).set_weights(_with(layer, model.get_layer(norm)))
    return result


def in_precision(model: keras.Model, precision: str) -> keras.Model:
    """A copy of a functional model for inference, its feature maps computed and its kernels kept in `precision`.

    precision: float32, bfloat16 or float16.  What comes after the last feature map, pooling, logits and
    probabilities, is float32 in each: a softmax over 1,000 classes loses the small ones in 16 bits.
    """

    def copy(layer):
        is_head = all(len(tensor.shape) < 4 for tensor in keras.tree.flatten(layer.output))
        config = layer.get_config() | {"dtype": "float32" if is_head else precision}
        return type(layer).from_config(config)

    result = keras.models.clone_model(model, clone_function=copy)
    for layer in result.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return result


def _before(norm, model: keras.Model):
    """The layer whose outputs `norm` alone reads, if it can take up the normalization; else None."""
    if not isinstance(norm, keras.layers.BatchNormalization) or len(norm._inbound_nodes) != 1:
        return None
    layer = norm.input._keras_history.operation
    is_last_axis = norm.axis in (-1, len(norm.input.shape) - 1)
    if not isinstance(layer, FOLDABLE) or not is_last_axis:
        return None
    alone = len(layer._inbound_nodes) == len(layer._outbound_nodes) == 1
    ends = {id(tensor) for tensor in keras.tree.flatten(model.output)}
    plain = layer.activation is keras.activations.linear and id(layer.output) not in ends
    return layer if alone and plain else None


def _with(layer, norm) -> list[np.ndarray]:
    """The weights of `layer` with `norm` in them."""
    mean, variance = (
        keras.ops.convert_to_numpy(v).astype("float64")
        for v in (norm.moving_mean, norm.moving_variance)
    )
    factor = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        factor = factor * keras.ops.convert_to_numpy(norm.gamma)
    shift = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    *kernels, last = layer.get_weights()
    bias = 0.0
    if layer.use_bias:
        bias, last = last, kernels.pop()
    return [*kernels, last * factor, (bias - mean) * factor + shift]
