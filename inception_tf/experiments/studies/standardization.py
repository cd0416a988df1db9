# SPDX-License-Identifier: Apache-2.0
"""The standardization layer of Gülçehre and Bengio 2013 beside batch normalization: Ioffe and Szegedy 2015, section 5.

Both use the statistics of the mini-batch and are differentiated through them.  Standardization is applied to the
output of the nonlinearity and has no scale and shift; batch normalization to its input, with both.  The paper says
that the former leads to sparser activations, and that the inputs of its nonlinearities were not sparse.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, line_style, mean_curve, numbers
from inception_tf.experiments.loop import LoopSettings, to_unit, train_loop
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["kurtosis", "make_network", "make_study"]

SIZE = 8  # pixels, height and width
HIDDEN, UNITS = 3, 64
BATCH = 60  # images of a step
LEARNING_RATE = 0.3
EPSILON, MOMENTUM = 1e-3, 0.9  # added to a variance; of the moving statistics
NONE, BEFORE, AFTER = "none", "before", "after"
NAMES = {
    NONE: "no normalization",
    BEFORE: "batch normalization before the nonlinearity",
    AFTER: "standardization after it",
}
ACTIVATIONS = ("relu", "sigmoid")
SCORED = 1000  # training images that the distributions are measured on
POINTS = 25  # measurements of a training


def make_network(place: str, activation: str, classes: int, *, seed: int) -> keras.Model:
    """Builds three layers of 64 units on gray images.

    Args:
        place: `none`, `before` or `after` the nonlinearity.
        activation: `relu` or `sigmoid`.
        classes: K.
        seed: of the initial weights.

    Returns:
        A model (N, 8, 8, 3) float32 → logits (N, K), the input of the last nonlinearity and what follows it
        (N, 64).
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.ops.mean(images, axis=-1))
    for _ in range(HIDDEN):
        x = keras.layers.Dense(UNITS, use_bias=place != BEFORE, kernel_initializer="he_normal")(x)
        if place == BEFORE:
            x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(x)
        inner = x
        x = keras.layers.Activation(activation)(x)
        if place == AFTER:
            x = keras.layers.BatchNormalization(
                momentum=MOMENTUM, epsilon=EPSILON, center=False, scale=False
            )(x)
    return keras.Model(images, [keras.layers.Dense(classes)(x), inner, x])


def kurtosis(values: np.ndarray) -> float:
    """The mean over units of the excess kurtosis: 0 of a Gaussian, large of a sparse distribution.

    Args:
        values: (N, C); units that do not vary are skipped.

    Returns:
        At least -2; NaN where no unit varies.
    """
    centered = values.astype(np.float64) - values.mean(axis=0)
    variance = (centered**2).mean(axis=0)
    centered, variance = centered[:, variance > 1e-12], variance[variance > 1e-12]
    return float(((centered**4).mean(axis=0) / variance**2).mean() - 3)


def make_study(setting: StudySettings) -> Study:
    """Three networks with two nonlinearities; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    kinds = {
        f"{place}.{activation}": (place, activation)
        for activation in ACTIVATIONS
        for place in NAMES
    }
    trials = {
        name: functools.partial(_train, data, *kinds[kind], seed, setting.steps)
        for name, kind, seed in seeds_of(setting, kinds)
    }
    return Study(data.counts, trials, functools.partial(_summarize, setting), (8.5, 3.8))


def _train(data: Arrays, place: str, activation: str, seed: int, steps: int) -> dict:
    model = make_network(place, activation, len(data.labels), seed=seed)
    logits = keras.Model(model.inputs, model.outputs[0])
    loop = LoopSettings(steps, BATCH, max(1, steps // POINTS), seed)
    rows = train_loop(logits, keras.optimizers.SGD(LEARNING_RATE), data, loop)
    _, inner, outer = model(to_unit(tf.constant(data.images[:SCORED])), training=False)
    inner, outer = inner.numpy(), outer.numpy()
    return {
        "curve": rows,
        "input_kurtosis": kurtosis(inner),
        "output_kurtosis": kurtosis(outer),
        "zeros": float((inner <= 0).mean()) if activation == "relu" else None,
    }


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    rows: list[dict[str, Any]] = []
    for activation in ACTIVATIONS:
        for place, name in NAMES.items():
            found = [results[f"{place}.{activation}.{seed}"] for seed in range(setting.seeds)]
            row: dict[str, Any] = {"activation": activation, "place": name}
            for key in ("loss", "test_accuracy"):
                row |= mean_and_spread(key, (one["curve"][-1][key] for one in found))
            for key in ("zeros", "input_kurtosis", "output_kurtosis"):
                row |= mean_and_spread(key, (one[key] for one in found))
            rows.append(row)
    by_kind = {(row["activation"], row["place"]): row for row in rows}

    def compare(activation, key):
        return [numbers([by_kind[activation, name]], key)[0] for name in NAMES.values()]

    zeros, losses = compare("relu", "zeros"), {a: compare(a, "loss") for a in ACTIVATIONS}
    holds = {
        "standardization after the nonlinearity gives sparser activations: more zeros of ReLU than batch normalization"
        " before it": bool(zeros[2] > zeros[1]),
        "the inputs of the nonlinearities are not sparse with batch normalization: their excess kurtosis is below 1": all(
            compare(activation, "input_kurtosis")[1] < 1 for activation in ACTIVATIONS
        ),
        **{
            f"batch normalization has the lower training loss in the end, with {activation}": bool(
                found[1] < found[2]
            )
            for activation, found in losses.items()
        },
        **{
            f"both train faster than the network without either, with {activation}": bool(
                max(found[1:]) < found[0]
            )
            for activation, found in losses.items()
        },
    }
    columns = (
        Column("activation", "nonlinearity"),
        Column("place", "normalization"),
        Column("loss", "training loss at the end", 4),
        Column("test_accuracy", "test accuracy", 1, percent=True),
        Column("zeros", "zeros of the last ReLU", 1, percent=True),
        Column("input_kurtosis", "excess kurtosis of its input", 2),
        Column("output_kurtosis", "of what follows it", 2),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, setting, results))


def _draw(setting: StudySettings, results: Mapping[str, dict], figure: Any) -> None:
    for letter, activation, axes in zip("ab", ACTIVATIONS, figure.subplots(1, 2), strict=True):
        for number, (place, name) in enumerate(NAMES.items()):
            curves = [
                results[f"{place}.{activation}.{seed}"]["curve"] for seed in range(setting.seeds)
            ]
            steps, means = mean_curve(curves, "loss")
            axes.plot(steps, means, label=name, **line_style(number, len(steps)))
        finish_axes(
            axes,
            xlabel="steps",
            ylabel="training loss (nats)",
            yscale="log",
            title=f"({letter}) {activation}",
        )
