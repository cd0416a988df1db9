# SPDX-License-Identifier: Apache-2.0
"""Population statistics: what batch normalization uses after training, computed again with the weights fixed."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.nn.keras_internals import layers_of

__all__ = ["recalibrate"]


def recalibrate(model: keras.Model, batches: Iterable, count: int) -> int:
    """Sets the moving mean and variance of every batch normalization to their means over `count` batches.

    For each layer E[x] = E_B[mean_B] and Var[x] = m/(m-1) E_B[var_B], with m = N*H*W values per channel
    (N after a dense layer), the variance unbiased.  All layers in one pass: each normalizes by the batch's
    own statistics, and so feeds the next one as it did in training.

    Dropout is off, as it is when the statistics are used: dropped values would add a variance that
    inference never sees.  Weights, optimizer and seeds keep their values.  Frozen normalizations
    (`trainable=False`) and those that the model calls with `training=False` normalize by the statistics
    that they have, and keep them; of the latter a warning gives the number.

    Args:
        model: any Keras model, in which normalizations may be nested at any depth.
        batches: what the model takes, such as (N, H, W, C), or tuples and lists that begin with it.
        count: how many of them to use, at least 1.

    Returns:
        The number of layers whose statistics were set, at least 1.

    Raises:
        UserError: there are fewer batches; a layer saw a single value per channel or one that is not
            finite; or no normalization ran in training mode.  All statistics are then what they were.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 2, lines 8 to 10.
    """
    if count < 1:
        raise UserError(f"population statistics take 1 batch or more, got {count}")
    norms = [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not norms:
        raise UserError(f"model '{model.name}' has no batch normalization that is trainable")
    sums = {norm: _Sums() for norm in norms}
    with _dropout_off(model), _batch_statistics(sums):
        for images in _inputs(batches, count):
            model(images, training=True)
    found = {norm: one.population(norm.name) for norm, one in sums.items() if one.batches}
    unused = len(norms) - len(found)
    if not found:
        raise UserError(
            f"none of the {unused} batch normalizations of '{model.name}' ran in training mode: the model"
            " calls them with training=False; recalibrate the model inside it, such as recalibrate(model.base, ...)"
        )
    if unused:
        warnings.warn(
            f"{unused} of {len(norms)} batch normalizations of '{model.name}' did not run in training mode and"
            " keep their statistics",
            stacklevel=2,
        )
    for norm, values in found.items():
        for variable, value in zip(_statistics(norm), values, strict=True):
            variable.assign(value)
    return len(found)


class _Sums:
    """Sums over the batches of one layer's means and unbiased variances, in float64."""

    def __init__(self) -> None:
        self.batches, self.mean, self.variance = 0, 0.0, 0.0

    def add(self, mean: np.ndarray, variance: np.ndarray, values: int) -> None:
        """mean, variance: (C,) of one batch, the variance over all `values` of a channel."""
        # A single value has no variance: `population` says so, by the layer's name.
        bessel = values / (values - 1) if values > 1 else math.nan
        self.batches += 1
        self.mean = self.mean + mean.astype("float64")
        self.variance = self.variance + variance.astype("float64") * bessel

    def population(self, name: str) -> tuple:
        if not np.all(np.isfinite(self.mean) & np.isfinite(self.variance)):
            raise UserError(
                f"the population statistics of '{name}' are not finite; give batches of 2 images or"
                " more, without NaN, to a model whose weights are finite"
            )
        return self.mean / self.batches, self.variance / self.batches


@contextmanager
def _batch_statistics(sums: dict) -> Iterator[None]:
    """Inside, each call of these layers in training mode adds its batch's mean and variance to the layer's sums."""

    def watched(norm: keras.layers.BatchNormalization, call: Callable) -> Callable:
        def watching(inputs: Any, *arguments: Any, **options: Any) -> Any:
            if not options.get("training"):
                return call(inputs, *arguments, **options)
            before = [np.array(keras.ops.convert_to_numpy(v)) for v in _statistics(norm)]
            # With momentum 0 the moving statistics become the batch's; from zeros, for NaN times 0 is NaN.
            for variable in _statistics(norm):
                # Not `zeros_like` of the variable, which Keras on JAX does not convert.
                variable.assign(np.zeros(variable.shape, "float32"))
            outputs = call(inputs, *arguments, **options)
            # Copies: torch's arrays are the variables' memory.
            mean, variance = (np.array(keras.ops.convert_to_numpy(v)) for v in _statistics(norm))
            for variable, value in zip(_statistics(norm), before, strict=True):
                variable.assign(value)
            sums[norm].add(mean, variance, math.prod(inputs.shape) // inputs.shape[norm.axis])
            return outputs

        return watching

    with ExitStack() as stack:
        for norm in sums:
            stack.enter_context(_attributes(norm, momentum=0.0, call=watched(norm, norm.call)))
        yield


@contextmanager
def _dropout_off(model: keras.Model) -> Iterator[None]:
    kinds = (keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout)
    with ExitStack() as stack:
        for layer in layers_of(model):
            if isinstance(layer, kinds):
                stack.enter_context(_attributes(layer, rate=0.0))
        yield


@contextmanager
def _attributes(layer: keras.layers.Layer, **values: Any) -> Iterator[None]:
    """Inside, the layer has these attributes; after it those that it had of its own, and no others."""
    own = {name: vars(layer)[name] for name in values if name in vars(layer)}
    try:
        for name, value in values.items():
            setattr(layer, name, value)
        yield
    finally:
        for name in values:
            if name in own:
                setattr(layer, name, own[name])
            else:
                delattr(layer, name)


def _inputs(batches: Iterable, count: int) -> Iterator:
    """The images of the first `count` batches."""
    done = 0
    for batch in itertools.islice(batches, count):
        done += 1
        yield batch[0] if isinstance(batch, (tuple, list)) else batch
    if done < count:
        raise UserError(
            f"population statistics over {count} batches need as many, the data has {done}; ask for fewer"
        )


def _statistics(norm: keras.layers.BatchNormalization) -> tuple:
    return norm.moving_mean, norm.moving_variance
