# SPDX-License-Identifier: Apache-2.0
"""Population statistics: what batch normalization uses after training, counted anew with the weights fixed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras
import numpy as np

from inception_tf.errors import UserError

__all__ = ["recalibrate"]


def recalibrate(model: keras.Model, batches: Iterable, count: int) -> int:
    """Sets the moving mean and variance of every batch normalization to their means over `count` batches.

    batches: what the model takes, (N, H, W, C), or tuples that begin with it, of `count` batches or
    more.  For each layer E[x] = E_B[mean_B] and Var[x] = m/(m-1) E_B[var_B], with m = N*H*W values a
    channel (N after a dense layer), the variance unbiased: Ioffe and Szegedy 2015, Algorithm 2, lines
    8 to 10.  All layers in one pass: each normalizes by the batch's own statistics meanwhile, and so
    feeds the next one as it did in training.

    Dropout is off, for it will be when the statistics are used: dropped values would add a variance
    that inference never sees.  Weights, optimizer and seeds stay as they are, and so do frozen
    normalizations (`trainable=False`), which normalize by what they have.  Returns how many layers
    were set; on an error all are what they were.  `UserError` for too few batches or a single value.
    """
    if count < 1:
        raise UserError(f"population statistics take 1 batch or more, got {count}")
    norms = [
        layer
        for layer in _layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not norms:
        return 0
    before = [(v, keras.ops.convert_to_numpy(v)) for norm in norms for v in _statistics(norm)]
    sums = {norm: _Sums() for norm in norms}
    try:
        with _dropout_off(model), _batch_statistics(sums):
            for images in _inputs(batches, count):
                model(images, training=True)
        found = {norm: sums[norm].population(norm.name) for norm in norms}
    finally:
        for variable, value in before:
            variable.assign(value)
    for norm, values in found.items():
        for variable, value in zip(_statistics(norm), values, strict=True):
            variable.assign(value)
    return len(norms)


class _Sums:
    """Sums over the batches of one layer's means and unbiased variances, in float64."""

    def __init__(self):
        self.batches, self.mean, self.variance = 0, 0.0, 0.0

    def add(self, mean, variance, values: int) -> None:
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
    """Inside, each call of these layers adds its batch's mean and variance to the layer's sums."""
    momenta = {norm: norm.momentum for norm in sums}

    def watched(norm):
        called = norm.call

        def call(inputs, *arguments, **options):
            # Of momentum 0 the moving statistics are the batch's, of zeros nothing is left: not even NaN.
            for variable in _statistics(norm):
                variable.assign(keras.ops.zeros_like(variable))
            outputs = called(inputs, *arguments, **options)
            mean, variance = map(keras.ops.convert_to_numpy, _statistics(norm))
            sums[norm].add(mean, variance, math.prod(inputs.shape) // inputs.shape[norm.axis])
            return outputs

        return call

    try:
        for norm in sums:
            norm.momentum, norm.call = 0.0, watched(norm)
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
            norm.__dict__.pop("call", None)


@contextmanager
def _dropout_off(model: keras.Model) -> Iterator[None]:
    rates = {
        layer: layer.rate for layer in _layers(model) if isinstance(layer, keras.layers.Dropout)
    }
    try:
        for layer in rates:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in rates.items():
            layer.rate = rate


def _inputs(batches: Iterable, count: int) -> Iterator:
    """The images of the first `count` batches."""
    done = 0
    for batch in itertools.islice(batches, count):
        done += 1
        yield batch[0] if isinstance(batch, tuple) else batch
    if done < count:
        raise UserError(
            f"population statistics over {count} batches need as many, the data has {done}; ask for fewer"
        )


def _layers(model: keras.Model) -> Iterator:
    """All layers, those of models inside it too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _statistics(norm) -> tuple:
    return norm.moving_mean, norm.moving_variance
