# SPDX-License-Identifier: Apache-2.0
"""The one interpreter: tables of `spec.py` into Keras layers, on any Keras backend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import keras

from inception_tf.arch import spec
from inception_tf.arch.spec import Conv, Drop, Fork, LocalNorm, Pool, Residual, Separable, Step
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.nn.local_response_norm import LocalResponseNormalization

__all__ = ["LayerConfig", "apply", "classifier", "normalized", "pooled"]

BN_EPSILON = 1e-3  # slim inception_arg_scope
BN_MOMENTUM = 0.99  # Keras' default; slim trains with 0.9997, its recipe says so


@dataclass(frozen=True)
class LayerConfig:
    """How all convolutions of one network are built: what the tables leave out because it never varies inside."""

    activation: str = "relu"
    batch_norm: bool = True  # after every convolution, in place of its bias
    batch_norm_momentum: float = BN_MOMENTUM  # share of the old moving statistics kept at each step
    batch_norm_epsilon: float = BN_EPSILON
    weight_decay: float = 0.0  # slim's meaning: the loss gains weight_decay * sum(kernel**2) / 2
    width_multiplier: float = 1.0  # factor on every convolution's filters
    initializer_stddev: float | None = None  # of a truncated normal; None: He's rule
    initializer_gain: float = 1.0  # factor on the initial weights of all convolutions
    dtype: object = None  # a dtype policy or its name; None: Keras' global policy

    def regularizer(self):
        # Keras' L2 is rate * sum(w**2); slim's l2_regularizer halves the sum.
        return keras.regularizers.L2(self.weight_decay / 2) if self.weight_decay else None


def kernel_initializer(stddev: float | None, gain: float = 1.0):
    """The initializer of a kernel: a truncated normal, or He's rule; `gain` times its standard deviation."""
    if stddev is not None:
        return keras.initializers.TruncatedNormal(stddev=gain * stddev)
    if gain == 1:
        return keras.initializers.HeNormal()
    return keras.initializers.VarianceScaling(2 * gain**2, "fan_in", "truncated_normal")


def apply(x, step: Step, name: str, layer_config: LayerConfig, endpoint: bool = True):
    """One step of a table on a tensor (N, H, W, C); `endpoint` gives the last layer the bare name."""
    if isinstance(step, Fork):
        return _joined(x, step.branches, name, layer_config, name)
    if isinstance(step, Residual):
        return _residual(x, step, name, layer_config)
    if isinstance(step, Pool):
        return _pool(x, step, name if endpoint else f"{name}_pool", layer_config)
    if isinstance(step, LocalNorm):
        return LocalResponseNormalization(dtype=layer_config.dtype, name=name)(x)
    if isinstance(step, Drop):
        return keras.layers.Dropout(step.rate, dtype=layer_config.dtype, name=name)(x)
    return _conv(x, step, name, layer_config, name if endpoint else f"{name}_act")


def _joined(x, branches, name: str, layer_config: LayerConfig, joined: str):
    ends = []
    for b, branch in enumerate(branches):
        end = x
        for s, inner in enumerate(branch):
            end = apply(end, inner, f"{name}_b{b}_{s}", layer_config, endpoint=False)
        ends.append(end)
    return keras.layers.Concatenate(axis=-1, dtype=layer_config.dtype, name=joined)(ends)


def _residual(x, step: Residual, name: str, layer_config: LayerConfig):
    inner = _joined(x, step.branches, name, layer_config, f"{name}_concat")
    inner = _conv(inner, Conv(x.shape[-1], linear=True), f"{name}_up", layer_config, f"{name}_up")
    if step.scale != 1:
        inner = keras.layers.Rescaling(step.scale, dtype=layer_config.dtype, name=f"{name}_scale")(
            inner
        )
    x = keras.layers.Add(dtype=layer_config.dtype, name=f"{name}_add" if step.activate else name)(
        [x, inner]
    )
    return _activated(x, layer_config, name) if step.activate else x


def _pool(x, step: Pool, name: str, layer_config: LayerConfig):
    layer = {"max": keras.layers.MaxPooling2D, "avg": keras.layers.AveragePooling2D}[step.kind]
    x, padding = _padded(x, step, name, layer_config)
    return layer(
        step.window,
        step.stride,
        padding=padding,
        data_format="channels_last",
        dtype=layer_config.dtype,
        name=name,
    )(x)


def _padded(x, step: Conv | Separable | Pool, name: str, layer_config: LayerConfig):
    """x with the zeros that Keras' own `same` and `valid` cannot place, and what is left for Keras.

    Zeros are no obstacle to a maximum: what is pooled comes from an activation that is never negative.
    """
    if step.padding in (spec.SAME, spec.VALID):
        return x, step.padding
    sides = step.padding if step.padding != spec.CEIL else ((0, step.stride - 1),) * 2
    pad = keras.layers.ZeroPadding2D(
        sides, data_format="channels_last", dtype=layer_config.dtype, name=f"{name}_pad"
    )
    return pad(x), spec.VALID


def _conv(x, step: Conv | Separable, name: str, layer_config: LayerConfig, last: str):
    normed = layer_config.batch_norm and isinstance(step, Conv) and not step.linear
    x, padding = _padded(x, step, name, layer_config)
    x = _kernel(step, layer_config)(
        strides=step.stride,
        padding=padding,
        data_format="channels_last",
        use_bias=not normed,
        dtype=layer_config.dtype,
        name=f"{name}_conv",
    )(x)
    if normed:
        x = normalized(x, f"{name}_bn", layer_config, layer_config.dtype)
    is_linear = isinstance(step, Conv) and step.linear
    return x if is_linear else _activated(x, layer_config, last)


def normalized(x, name: str, layer_config: LayerConfig, dtype):
    """Batch normalization over the last axis, with a shift and no scale."""
    return BatchNormalization(
        axis=-1,
        momentum=layer_config.batch_norm_momentum,
        epsilon=layer_config.batch_norm_epsilon,
        scale=False,  # slim: the next convolution can learn gamma's work
        dtype=dtype,
        name=name,
    )(x)


def _kernel(step: Conv | Separable, layer_config: LayerConfig):
    """The layer of a convolution with its widths, initial weights and penalty; stride and padding are still open."""
    # A residual's `up` has the width of its input already.
    filters = step.filters if getattr(step, "linear", False) else None
    filters = filters or spec.min_width(step.filters, layer_config.width_multiplier)
    begin = _kernel_initializer(step, layer_config)
    if isinstance(step, Conv):
        return partial(
            keras.layers.Conv2D,
            filters,
            step.window,
            dilation_rate=step.rate,
            kernel_initializer=begin,
            kernel_regularizer=layer_config.regularizer(),
        )
    return partial(
        keras.layers.SeparableConv2D,
        filters,
        step.window,
        depth_multiplier=spec.depth_multiplier(step, filters),
        depthwise_initializer=begin,
        pointwise_initializer=_kernel_initializer(step, layer_config),
        depthwise_regularizer=layer_config.regularizer(),
        pointwise_regularizer=layer_config.regularizer(),
    )


def _kernel_initializer(step: Conv | Separable, layer_config: LayerConfig):
    return kernel_initializer(
        step.stddev or layer_config.initializer_stddev, layer_config.initializer_gain
    )


def _activated(x, layer_config: LayerConfig, name: str):
    return keras.layers.Activation(layer_config.activation, dtype=layer_config.dtype, name=name)(x)


def pooled(x, kind: str, name: str):
    """Mean (`avg`) or maximum (`max`) over the grid: (N, H, W, C) → (N, C) float32."""
    layer = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }[kind]
    return layer(data_format="channels_last", dtype="float32", name=name)(x)


def classifier(
    x,
    classes: int,
    activation: str | None,
    layer_config: LayerConfig,
    *,
    logits: str,
    output: str,
    stddev: float | None = None,
):
    """Logits and their activation, (N, C) → (N, classes), both float32 whatever the policy of the body.

    logits, output: the two layers' names.  stddev: of the initial weights; None: He's rule.
    """
    x = keras.layers.Dense(
        classes,
        kernel_initializer=kernel_initializer(stddev),
        kernel_regularizer=layer_config.regularizer(),
        dtype="float32",  # a float16 softmax over 1,000 classes loses the small ones
        name=logits,
    )(x)
    if activation in (None, "linear"):
        return x
    return keras.layers.Activation(activation, dtype="float32", name=output)(x)
