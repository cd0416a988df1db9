# SPDX-License-Identifier: Apache-2.0
"""A network in which the gradient of any one kernel can be made NaN while nothing else changes."""

from __future__ import annotations

import keras
import numpy as np


def _marked(kernel, factor):
    """The kernel as it is; its gradient times `factor`."""
    # Products are tensors: a variable inside would be asked for a gradient of its own.
    return _identity(kernel * 1, keras.ops.cast(factor * 1, "float32"))


@keras.ops.custom_gradient
def _identity(kernel, factor):
    def gradient(*arguments, upstream=None):
        if upstream is None:
            (upstream,) = arguments
        return upstream * keras.ops.cast(factor, upstream.dtype), keras.ops.zeros_like(factor)

    return kernel * 1, gradient


class _Marked:
    """A layer with one number more: a variable, so that no optimizer of graphs can know what it is."""

    def build(self, input_shape):
        super().build(input_shape)
        self.factor = self.add_weight(shape=(), initializer="ones", trainable=False, name="factor")


class MarkedConv2D(_Marked, keras.layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, _marked(kernel, self.factor))


class MarkedDense(_Marked, keras.layers.Dense):
    def call(self, inputs):
        return keras.ops.matmul(inputs, _marked(self.kernel, self.factor)) + self.bias


def poisonable(model: keras.Model) -> tuple[keras.Model, list]:
    """A copy of a functional model with marked layers, and these layers; each one's kernel has a gradient of its own."""

    def copy(layer):
        kinds = {keras.layers.Conv2D: MarkedConv2D, keras.layers.Dense: MarkedDense}
        return kinds.get(type(layer), type(layer)).from_config(layer.get_config())

    marked = keras.models.clone_model(model, clone_function=copy)
    return marked, [layer for layer in marked.layers if isinstance(layer, _Marked)]


def lost(step, layers) -> list[str]:
    """Names of the layers whose gradient does not reach what `step()` returns, an array of numbers."""
    assert np.all(np.isfinite(step()))
    names = []
    for layer in layers:
        layer.factor.assign(np.nan)
        if not np.any(np.isnan(step())):
            names.append(layer.name)
        layer.factor.assign(1.0)
    assert np.all(np.isfinite(step()))
    return names
