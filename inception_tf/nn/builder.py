# SPDX-License-Identifier: Apache-2.0
"""Steps of a network table (`arch/spec.py`) as Keras layers, on any Keras backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import keras

from inception_tf.arch import spec
from inception_tf.arch.spec import (
    AdaptivePool,
    BatchNorm,
    Branch,
    Conv,
    Dropout,
    Fork,
    LocalNorm,
    Pool,
    Residual,
    Separable,
    Step,
)
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.nn.local_response_norm import LocalResponseNormalizationModel

__all__ = [
    "BN_EPSILON",
    "LRN",
    "LayerConfig",
    "apply_batch_norm",
    "apply_step",
    "classifier_head",
    "global_pool",
]

BN_EPSILON = 1e-3  # slim inception_arg_scope
LRN = "_lrn"  # how the names of the models end that compute local response normalization
BN_MOMENTUM = 0.99  # Keras' default; slim trains with 0.9997, its recipe says so


@dataclass(frozen=True)
class LayerConfig:
    """What all layers of one network have in common, and its table therefore omits."""

    activation: str | Callable = "relu"  # after every convolution
    batch_norm: bool = True  # after every convolution, in place of its bias
    batch_norm_scale: bool = False  # every batch normalization has a gamma beside its beta
    batch_norm_momentum: float = BN_MOMENTUM  # in [0, 1), of the moving statistics
    batch_norm_epsilon: float = BN_EPSILON  # added to the variance
    weight_decay: float = 0.0  # as in slim: adds weight_decay * sum(kernel**2) / 2 to the loss
    width_multiplier: float = 1.0  # factor on every convolution's filters
    initializer: spec.Initializer = spec.HE  # of the convolutions' kernels
    bias: float = 0.0  # initial value of the convolutions' biases
    decays_biases: bool = False  # weight decay reaches biases too
    initializer_gain: float = (
        1.0  # factor on the standard deviation of the convolutions' initializers
    )
    dtype: str | keras.DTypePolicy | None = None  # None: Keras' global policy

    def regularizer(self) -> keras.Regularizer | None:
        """The kernel regularizer, None without weight decay."""
        # Keras' L2 is factor * sum(w**2); slim's l2_regularizer halves the sum.
        return keras.regularizers.L2(self.weight_decay / 2) if self.weight_decay else None

    def bias_regularizer(self) -> keras.Regularizer | None:
        """The regularizer of biases, None where weight decay does not reach them."""
        return self.regularizer() if self.decays_biases else None


# Scale, fan and distribution of Keras' initializers, which take no gain themselves.
_SCALINGS = {
    spec.HE: (2.0, "fan_in", "truncated_normal"),
    spec.XAVIER: (1.0, "fan_avg", "uniform"),
    spec.CAFFE_XAVIER: (1.0, "fan_in", "uniform"),
}


def _kernel_initializer(initializer: spec.Initializer, gain: float = 1.0) -> keras.Initializer:
    """An initializer whose standard deviation is multiplied by `gain`."""
    if not isinstance(initializer, str):
        return keras.initializers.TruncatedNormal(stddev=gain * initializer)
    if gain == 1:
        return keras.initializers.get(initializer)
    scale, fan, distribution = _SCALINGS[initializer]
    return keras.initializers.VarianceScaling(scale * gain**2, fan, distribution)


def apply_step(
    x: keras.KerasTensor, step: Step, name: str, layer_config: LayerConfig, endpoint: bool = True
) -> keras.KerasTensor:
    """Apply one step of a network table to a tensor.

    Args:
        x: (N, H, W, C) tensor.
        step: The step.
        name: str. Prefix of the layers' names.
        layer_config: What all layers of the network have in common.
        endpoint: bool. Whether the last layer is called `name` itself.

    Returns:
        (N, h, w, c) tensor.
    """
    if isinstance(step, Fork):
        return _concatenated(x, step.branches, name, layer_config, name)
    if isinstance(step, Residual):
        return _residual(x, step, name, layer_config)
    if isinstance(step, Pool):
        return _pool(x, step, name if endpoint else f"{name}_pool", layer_config)
    if isinstance(step, AdaptivePool):
        return keras.layers.AdaptiveAveragePooling2D(
            step.size, data_format="channels_last", dtype=layer_config.dtype, name=name
        )(x)
    if isinstance(step, LocalNorm):
        return _local_norm(x, name, layer_config)
    if isinstance(step, Dropout):
        return keras.layers.Dropout(step.rate, dtype=layer_config.dtype, name=name)(x)
    if isinstance(step, BatchNorm):
        return apply_batch_norm(x, name, layer_config, layer_config.dtype)
    return _conv(x, step, name, layer_config, name if endpoint else f"{name}_act")


def _local_norm(x: keras.KerasTensor, name: str, layer_config: LayerConfig) -> keras.KerasTensor:
    # A model of its own: Keras names operations, and the names would meet those of another network in one graph.
    normalized = LocalResponseNormalizationModel.for_shape(x.shape[1:], f"{name}{LRN}")
    # Casts to what the layers compute in.
    return keras.layers.Activation("linear", dtype=layer_config.dtype, name=name)(normalized(x))


def _concatenated(
    x: keras.KerasTensor,
    branches: tuple[Branch, ...],
    name: str,
    layer_config: LayerConfig,
    concat_name: str,
) -> keras.KerasTensor:
    ends = []
    for b, branch in enumerate(branches):
        end = x
        for s, inner in enumerate(branch):
            end = apply_step(end, inner, f"{name}_b{b}_{s}", layer_config, endpoint=False)
        ends.append(end)
    return keras.layers.Concatenate(axis=-1, dtype=layer_config.dtype, name=concat_name)(ends)


def _residual(
    x: keras.KerasTensor, step: Residual, name: str, layer_config: LayerConfig
) -> keras.KerasTensor:
    inner = _concatenated(x, step.branches, name, layer_config, f"{name}_concat")
    inner = _conv(inner, Conv(x.shape[-1], linear=True), f"{name}_up", layer_config, f"{name}_up")
    if step.scale != 1:
        inner = keras.layers.Rescaling(step.scale, dtype=layer_config.dtype, name=f"{name}_scale")(
            inner
        )
    x = keras.layers.Add(dtype=layer_config.dtype, name=f"{name}_add" if step.activate else name)(
        [x, inner]
    )
    return _activated(x, layer_config, name) if step.activate else x


def _pool(
    x: keras.KerasTensor, step: Pool, name: str, layer_config: LayerConfig
) -> keras.KerasTensor:
    kind = {"max": keras.layers.MaxPooling2D, "avg": keras.layers.AveragePooling2D}[step.kind]
    layer = partial(kind, data_format="channels_last", dtype=layer_config.dtype)
    if step.padding != spec.CEIL:
        x, padding = _padded(x, step, name, layer_config)
        return layer(step.window, step.stride, padding=padding, name=name)(x)
    if all(side is not None and side % 2 == 0 for side in x.shape[1:3]):
        return layer(step.window, step.stride, padding=spec.SAME, name=name)(x)
    # Of an odd or unknown side `same` would begin outside.  Two maxima are the one of the whole window: over each
    # pixel and the next, which alone passes the edge, and over a window that is smaller by one.
    x = layer(2, 1, padding=spec.SAME, name=f"{name}_pairs")(x)
    return layer([side - 1 for side in step.window], step.stride, padding=spec.VALID, name=name)(x)


def _padded(
    x: keras.KerasTensor, step: Conv | Separable | Pool, name: str, layer_config: LayerConfig
) -> tuple[keras.KerasTensor, str]:
    """x with the zero padding that Keras' `same` and `valid` do not cover, and the padding argument for Keras' layer."""
    if isinstance(step.padding, str):
        return x, step.padding
    pad = keras.layers.ZeroPadding2D(
        step.padding, data_format="channels_last", dtype=layer_config.dtype, name=f"{name}_pad"
    )
    return pad(x), spec.VALID


def _conv(
    x: keras.KerasTensor,
    step: Conv | Separable,
    name: str,
    layer_config: LayerConfig,
    activation_name: str,
) -> keras.KerasTensor:
    normed = layer_config.batch_norm and isinstance(step, Conv) and not step.has_bias
    x, padding = _padded(x, step, name, layer_config)
    x = _kernel(step, layer_config)(
        strides=step.stride,
        padding=padding,
        data_format="channels_last",
        use_bias=not normed,
        bias_initializer=keras.initializers.Constant(layer_config.bias),
        bias_regularizer=layer_config.bias_regularizer(),
        dtype=layer_config.dtype,
        name=f"{name}_conv",
    )(x)
    if normed:
        x = apply_batch_norm(x, f"{name}_bn", layer_config, layer_config.dtype)
    is_linear = isinstance(step, Conv) and step.linear
    return x if is_linear else _activated(x, layer_config, activation_name)


def apply_batch_norm(
    x: keras.KerasTensor,
    name: str,
    layer_config: LayerConfig,
    dtype: str | keras.DTypePolicy | None,
) -> keras.KerasTensor:
    """Batch normalization over the last axis, with beta, and with gamma where the network has one.

    Args:
        x: (N, ..., C) tensor.
        name: str. Name of the layer.
        layer_config: Momentum, epsilon, and whether there is a gamma.
        dtype: Dtype policy of the layer; None: Keras' global policy.

    Returns:
        A tensor of the same shape.
    """
    return BatchNormalization(
        axis=-1,
        momentum=layer_config.batch_norm_momentum,
        epsilon=layer_config.batch_norm_epsilon,
        # Not by default, as in slim: the next convolution can learn the scale.
        scale=layer_config.batch_norm_scale,
        dtype=dtype,
        name=name,
    )(x)


def _kernel(step: Conv | Separable, layer_config: LayerConfig) -> Callable[..., keras.Layer]:
    """The layer of a convolution with its filters, initializer and regularizer, without stride and padding."""
    filters = step.filters
    # A residual's `up` has as many filters as its input has channels, which are scaled already.
    if not (isinstance(step, Conv) and step.linear):
        filters = spec.scale_filters(filters, layer_config.width_multiplier)
    initializer = _conv_initializer(step, layer_config)
    if isinstance(step, Conv):
        return partial(
            keras.layers.Conv2D,
            filters,
            step.window,
            dilation_rate=step.dilation,
            kernel_initializer=initializer,
            kernel_regularizer=layer_config.regularizer(),
        )
    return partial(
        keras.layers.SeparableConv2D,
        filters,
        step.window,
        depth_multiplier=spec.depth_multiplier(step, filters),
        depthwise_initializer=initializer,
        pointwise_initializer=_conv_initializer(step, layer_config),
        # No weight decay: slim's settings for it reach plain convolutions and dense layers alone.
    )


def _conv_initializer(step: Conv | Separable, layer_config: LayerConfig) -> keras.Initializer:
    return _kernel_initializer(
        step.stddev or layer_config.initializer, layer_config.initializer_gain
    )


def _activated(x: keras.KerasTensor, layer_config: LayerConfig, name: str) -> keras.KerasTensor:
    return keras.layers.Activation(layer_config.activation, dtype=layer_config.dtype, name=name)(x)


def global_pool(x: keras.KerasTensor, kind: Literal["avg", "max"], name: str) -> keras.KerasTensor:
    """Global average or max pooling.

    Args:
        x: (N, H, W, C) tensor.
        kind: "avg" or "max".
        name: str. Name of the layer.

    Returns:
        (N, C) float32 tensor.
    """
    layer = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }[kind]
    return layer(data_format="channels_last", dtype="float32", name=name)(x)


def classifier_head(
    x: keras.KerasTensor,
    classes: int,
    activation: str | Callable | None,
    layer_config: LayerConfig,
    *,
    logits: str,
    output: str,
    initializer: spec.Initializer = spec.HE,
) -> keras.KerasTensor:
    """Logits and their activation, in float32 whatever the dtype policy of the backbone.

    Args:
        x: (N, C) tensor.
        classes: int. Number of classes.
        activation: Name or function; None or "linear" returns logits.
        layer_config: Its weight decay.
        logits: str. Name of the dense layer.
        output: str. Name of the activation layer.
        initializer: Of the kernel; the bias begins at 0.

    Returns:
        (N, classes) float32 tensor.
    """
    x = keras.layers.Dense(
        classes,
        kernel_initializer=_kernel_initializer(initializer),
        kernel_regularizer=layer_config.regularizer(),
        bias_regularizer=layer_config.bias_regularizer(),
        dtype="float32",  # a float16 softmax over 1,000 classes loses small probabilities
        name=logits,
    )(x)
    if activation in (None, "linear"):
        return x
    return keras.layers.Activation(activation, dtype="float32", name=output)(x)
