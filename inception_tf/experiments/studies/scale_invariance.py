# SPDX-License-Identifier: Apache-2.0
"""Batch normalization and the scale of the weights: Ioffe and Szegedy 2015, section 3.3.

BN(Wu) = BN((aW)u), the gradient to u is the same, and that to aW is 1/a times the one to W: measured on a layer.
Then a network at learning rates up to those at which it diverges, with batch normalization and without.
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
from inception_tf.experiments.lines import finish_axes, numbers, plot_rows
from inception_tf.experiments.loop import LoopSettings, train_loop
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["make_study", "scaled_layer"]

SIZE = 8  # pixels, height and width
HIDDEN, UNITS = 3, 32
BATCH = 60  # images of a step
FACTORS = (0.01, 0.1, 0.5, 2.0, 10.0, 100.0)  # a
LEARNING_RATES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
TOLERANCE = 1e-5  # of the layer's equations, relative to the largest value
NAMES = {False: "without BN", True: "with BN"}


def make_study(setting: StudySettings) -> Study:
    """A layer whose weights are scaled, and two networks at seven learning rates; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    trials: dict[str, Any] = {
        f"layer.{factor:g}": functools.partial(scaled_layer, data, factor) for factor in FACTORS
    }
    kinds = {
        f"{'bn' if batch_norm else 'plain'}.{rate:g}": (batch_norm, rate)
        for rate in LEARNING_RATES
        for batch_norm in NAMES
    }
    for name, kind, seed in seeds_of(setting, kinds):
        trials[name] = functools.partial(_train, data, *kinds[kind], seed, setting.steps)
    return Study(data.counts, trials, functools.partial(_summarize, setting), (8.5, 3.8))


def scaled_layer(data: Arrays, factor: float) -> dict:
    """Compares BN(Wu) and its gradients with those of BN((aW)u), in float64 and without epsilon.

    Args:
        data: the first 60 images are u.
        factor: a.

    Returns:
        The largest deviations from the paper's equations, each relative to the largest magnitude of what it is
        compared with: `output`, `input_gradient`, and `weight_gradient`, from 1/a times the gradient to W.
    """
    u = tf.constant(data.images[:BATCH].astype(np.float64).reshape(BATCH, -1) / 127.5 - 1)
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(u.shape[1], UNITS)) / np.sqrt(u.shape[1])
    upstream = tf.constant(generator.normal(size=(BATCH, UNITS)))

    def pass_both_ways(weights):
        norm = keras.layers.BatchNormalization(epsilon=0.0, dtype="float64")
        variable = tf.constant(weights)
        with tf.GradientTape() as tape:
            tape.watch([u, variable])
            outputs = norm(tf.matmul(u, variable), training=True)
            loss = tf.reduce_sum(outputs * upstream)
        return outputs, *tape.gradient(loss, [u, variable])

    output, input_gradient, weight_gradient = pass_both_ways(weights)
    scaled = pass_both_ways(factor * weights)
    expected = (output, input_gradient, weight_gradient / factor)
    deviations = [
        float(tf.reduce_max(tf.abs(ours - theirs)) / tf.reduce_max(tf.abs(theirs)))
        for ours, theirs in zip(scaled, expected, strict=True)
    ]
    return dict(zip(("output", "input_gradient", "weight_gradient"), deviations, strict=True))


def _train(data: Arrays, batch_norm: bool, rate: float, seed: int, steps: int) -> dict:
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.ops.mean(images, axis=-1))
    kernels = []
    for _ in range(HIDDEN):
        dense = keras.layers.Dense(UNITS, use_bias=not batch_norm, kernel_initializer="he_normal")
        x = dense(x)
        kernels.append(dense)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Activation("relu")(x)
    model = keras.Model(images, keras.layers.Dense(len(data.labels))(x))
    loop = LoopSettings(steps, BATCH, max(1, steps // 4), seed)
    rows = train_loop(model, keras.optimizers.SGD(rate), data, loop)
    norms = [float(np.linalg.norm(keras.ops.convert_to_numpy(one.kernel))) for one in kernels]
    largest = max(norms)
    return {"curve": rows, "norm": largest if np.isfinite(largest) else None}


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    rows: list[dict[str, Any]] = []
    chance = 0.2  # of ten classes, with a margin
    for batch_norm, name in NAMES.items():
        for rate in LEARNING_RATES:
            kind = f"{'bn' if batch_norm else 'plain'}.{rate:g}"
            found = [results[f"{kind}.{seed}"] for seed in range(setting.seeds)]
            ends = [one["curve"][-1] for one in found]
            row: dict[str, Any] = {"network": name, "learning_rate": rate}
            for key in ("loss", "test_accuracy"):
                row |= mean_and_spread(key, (end[key] for end in ends))
            row |= mean_and_spread("norm", (one["norm"] for one in found))
            failed = [end["loss"] is None or end["test_accuracy"] < chance for end in ends]
            row["infinite"] = sum(end["loss"] is None for end in ends)
            row["failed"] = sum(failed)
            rows.append(row)
    plain, normalized = rows[: len(LEARNING_RATES)], rows[len(LEARNING_RATES) :]
    layers = [results[f"layer.{factor:g}"] for factor in FACTORS]
    worst = {key: max(layer[key] for layer in layers) for key in layers[0]}
    holds = {
        f"BN(Wu) = BN((aW)u) for a from {FACTORS[0]:g} to {FACTORS[-1]:g}: to {worst['output']:.0e}": worst[
            "output"
        ]
        < TOLERANCE,
        f"the gradient to u does not depend on a: to {worst['input_gradient']:.0e}": worst[
            "input_gradient"
        ]
        < TOLERANCE,
        f"the gradient to aW is 1/a times the one to W: to {worst['weight_gradient']:.0e}": worst[
            "weight_gradient"
        ]
        < TOLERANCE,
        "at some learning rates each network without BN fails and each with BN learns": any(
            one["failed"] == setting.seeds and other["failed"] == 0
            for one, other in zip(plain, normalized, strict=True)
        ),
        "the network with BN learns at every learning rate where the one without does": all(
            other["failed"] <= one["failed"] for one, other in zip(plain, normalized, strict=True)
        ),
    }
    columns = (
        Column("network", "network"),
        Column("learning_rate", "learning rate", 2),
        Column("loss", "training loss at the end", 3),
        Column("test_accuracy", "test accuracy", 1, percent=True),
        Column("norm", "largest norm of weights", 1, scientific=True),
        Column("infinite", "trainings that became infinite"),
        Column("failed", f"infinite or below {chance:.0%}"),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, plain, normalized))


def _draw(plain: list[dict], normalized: list[dict], figure: Any) -> None:
    accuracies, norms = figure.subplots(1, 2)
    for number, rows in enumerate((normalized, plain)):
        label = rows[0]["network"]
        plot_rows(
            accuracies, rows, "learning_rate", "test_accuracy", number, label=label, factor=100
        )
        plot_rows(norms, rows, "learning_rate", "norm", number, label=label)
        gone = [row["learning_rate"] for row in rows if np.isnan(numbers([row], "norm"))[0]]
        norms.plot(gone, [1e6] * len(gone), "x", color="0.0", markersize=8)
    finish_axes(
        accuracies,
        xlabel="learning rate",
        ylabel="test accuracy (%)",
        xscale="log",
        title="(a) accuracy at the end",
    )
    finish_axes(
        norms,
        xlabel="learning rate",
        ylabel="largest norm of weights",
        xscale="log",
        yscale="log",
        title="(b) weights at the end, x: infinite",
    )
