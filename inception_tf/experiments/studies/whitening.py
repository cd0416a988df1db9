# SPDX-License-Identifier: Apache-2.0
"""Full whitening by Cov^-1/2 against normalization of each activation: Ioffe and Szegedy 2015, sections 2 and 3.

The paper's first simplification: whitening all activations of a layer together is costly and not everywhere
differentiable, so each is normalized alone.  Here both are layers of the same network of sigmoids, differentiated
through their statistics, and are compared by steps and by time per step.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, line_style, mean_curve, numbers, plot_rows
from inception_tf.experiments.loop import (
    LoopSettings,
    cross_entropy,
    image_order,
    step_runner,
    to_unit,
    train_loop,
)
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["Whitening", "inverse_root", "make_network", "make_study"]

SIZE = 8  # pixels, height and width
NONE, SINGLE, FULL = "none", "single", "full"
NAMES = {NONE: "no normalization", SINGLE: "each activation alone", FULL: "full whitening"}
HIDDEN, UNITS = 3, 32
SMALL, LARGE = 60, 480  # images of a step
TRAININGS = ((SMALL, 0.5), (SMALL, 2.0), (LARGE, 2.0))  # images of a step, learning rate
MOMENTUM, EPSILON = 0.9, 1e-3  # of the moving statistics; added to variances
LEVEL = 0.9  # test accuracy whose first step is reported
POINTS = 40  # measurements of a training
TIMED_WIDTHS, TIMED_BATCH = (32, 128, 256), 256
TIMED_STEPS, ROUNDS = 4, 25  # steps of a call; calls of each network, in turn
RANK_BATCHES = (8, 16, 32, 60, 256)


@tf.custom_gradient
def inverse_root(covariance: tf.Tensor) -> Any:
    """The symmetric C^-1/2 of a positive definite matrix.

    The gradient is that of a matrix function by divided differences of l^-1/2 (Daleckii and Krein 1965), which are
    finite at equal eigenvalues too, where the gradient of the eigenvectors is not.

    Args:
        covariance: (C, C) float32 or float64, symmetric.

    Returns:
        (C, C).
    """
    values, vectors = tf.linalg.eigh(covariance)
    roots = tf.sqrt(values)

    def gradient(upstream):
        inner = tf.matmul(vectors, tf.matmul(upstream, vectors), transpose_a=True)
        product, total = roots[:, None] * roots[None, :], roots[:, None] + roots[None, :]
        found = tf.matmul(vectors, tf.matmul(-inner / (product * total), vectors, transpose_b=True))
        return (found + tf.transpose(found)) / 2

    return tf.matmul(vectors / roots, vectors, transpose_b=True), gradient


class Whitening(keras.layers.Layer):
    """Cov^-1/2 (x - mean) of a batch, (N, C) → (N, C), then scale and shift as in batch normalization.

    In inference it uses moving averages of mean and covariance.
    """

    def build(self, shape):
        channels = shape[-1]
        self.gamma = self.add_weight(shape=(channels,), initializer="ones")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros")
        self.mean = self.add_weight(shape=(channels,), initializer="zeros", trainable=False)
        self.covariance = self.add_weight(
            shape=(channels, channels), initializer="identity", trainable=False
        )

    def call(self, inputs, training=False):
        mean, covariance = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.covariance)
        if training:
            mean = tf.reduce_mean(inputs, axis=0)
            centered = inputs - mean
            count = tf.cast(tf.shape(inputs)[0], inputs.dtype)
            covariance = tf.matmul(centered, centered, transpose_a=True) / count
            for variable, value in ((self.mean, mean), (self.covariance, covariance)):
                variable.assign(MOMENTUM * variable + (1 - MOMENTUM) * value)
        damped = covariance + EPSILON * tf.eye(inputs.shape[-1])
        return tf.matmul(inputs - mean, inverse_root(damped)) * self.gamma + self.beta


def make_network(mode: str, classes: int, *, seed: int, units: int = UNITS) -> keras.Model:
    """Builds three layers of sigmoids whose inputs are normalized, on gray images.

    Args:
        mode: `none`, `single` or `full`.
        classes: K.
        seed: of the initial weights.
        units: of each layer.

    Returns:
        A model (N, 8, 8, 3) float32 → logits (N, K).
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.ops.mean(images, axis=-1))
    for _ in range(HIDDEN):
        x = keras.layers.Dense(units, use_bias=mode == NONE)(x)
        if mode == SINGLE:
            x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(x)
        elif mode == FULL:
            x = Whitening()(x)
        x = keras.layers.Activation("sigmoid")(x)
    return keras.Model(images, keras.layers.Dense(classes)(x))


def make_study(setting: StudySettings) -> Study:
    """Three networks in three trainings, their time per step, and the rank of covariances; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    trials: dict[str, Any] = {
        f"time.{units}": functools.partial(_time_steps, data, units) for units in TIMED_WIDTHS
    }
    trials["ranks"] = functools.partial(_ranks, data)
    kinds = {
        f"{mode}.{batch}.{rate:g}": (mode, batch, rate)
        for batch, rate in TRAININGS
        for mode in NAMES
    }
    for name, kind, seed in seeds_of(setting, kinds):
        trials[name] = functools.partial(_train, data, *kinds[kind], seed, setting.steps)
    return Study(data.counts, trials, functools.partial(_summarize, setting))


def _train(data: Arrays, mode: str, batch: int, rate: float, seed: int, steps: int) -> dict:
    model = make_network(mode, len(data.labels), seed=seed)
    loop = LoopSettings(steps, batch, max(1, steps // POINTS), seed)
    rows = train_loop(model, keras.optimizers.SGD(rate), data, loop)
    reached = (row["step"] for row in rows if row["test_accuracy"] >= LEVEL)
    return {"curve": rows, "steps_to_level": next(reached, None)}


def _time_steps(data: Arrays, units: int) -> dict:
    """Milliseconds of processor time per step; the networks take turns, so that a busy machine slows all down alike."""
    images, classes = tf.constant(data.images), tf.constant(data.classes)
    shown = image_order(TIMED_STEPS, TIMED_BATCH, len(data.images), 0)
    runners = {
        mode: step_runner(
            make_network(mode, len(data.labels), seed=0, units=units),
            keras.optimizers.SGD(0.01),
            lambda batch, _: (to_unit(tf.gather(images, batch)), tf.gather(classes, batch)),
            cross_entropy,
            TIMED_BATCH,
        )
        for mode in NAMES
    }
    seconds: dict[str, list[float]] = {mode: [] for mode in NAMES}
    for round_number in range(ROUNDS + 1):
        for mode, run in runners.items():
            started = time.process_time()
            float(run(shown, 0))
            if round_number:  # the first call traces
                seconds[mode].append(time.process_time() - started)
    return {mode: 1000 * statistics.median(s) / TIMED_STEPS for mode, s in seconds.items()}


def _ranks(data: Arrays) -> dict:
    """The rank of the covariance of the first layer's activations, by the number of images."""
    model = make_network(NONE, len(data.labels), seed=0)
    dense = keras.Model(
        model.inputs, model.layers[[type(x) for x in model.layers].index(keras.layers.Dense)].output
    )
    found = {}
    for count in RANK_BATCHES:
        values = dense(to_unit(data.images[:count])).numpy().astype(np.float64)
        found[str(count)] = int(np.linalg.matrix_rank(np.cov(values.T, bias=True), tol=1e-9))
    return found


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    rows: list[dict[str, Any]] = []
    for batch, rate in TRAININGS:
        for mode, name in NAMES.items():
            kind = f"{mode}.{batch}.{rate:g}"
            found = [results[f"{kind}.{seed}"] for seed in range(setting.seeds)]
            row: dict[str, Any] = {"batch": batch, "learning_rate": rate, "mode": name}
            row |= mean_and_spread("steps", (one["steps_to_level"] for one in found))
            for key in ("loss", "test_accuracy"):
                row |= mean_and_spread(key, (one["curve"][-1][key] for one in found))
            if (batch, rate) == TRAININGS[0]:
                row |= {f"ms_{u}": results[f"time.{u}"][mode] for u in TIMED_WIDTHS}
            rows.append(row)
    loss = numbers(rows, "loss").reshape(len(TRAININGS), len(NAMES))
    ratios = [results[f"time.{u}"][FULL] / results[f"time.{u}"][SINGLE] for u in TIMED_WIDTHS]
    ranks = results["ranks"]
    holds = {
        **{
            f"full whitening reaches a lower training loss in the same steps, with {batch} images per step and a learning"
            f" rate of {rate:g}": bool(found[2] < found[1])
            for (batch, rate), found in zip(TRAININGS, loss, strict=True)
        },
        f"a step with full whitening takes longer: {ratios[0]:.1f}, {ratios[1]:.1f} and {ratios[2]:.1f} times as long"
        f" at {TIMED_WIDTHS[0]}, {TIMED_WIDTHS[1]} and {TIMED_WIDTHS[2]} activations": min(ratios)
        > 1,
        f"with fewer images than the {UNITS} activations their covariance is singular: rank"
        f" {', '.join(str(rank) for rank in ranks.values())} of {', '.join(ranks)} images": all(
            rank < UNITS for count, rank in ranks.items() if int(count) <= UNITS
        ),
    }
    columns = (
        Column("batch", "images per step"),
        Column("learning_rate", "learning rate"),
        Column("mode", "normalization"),
        Column("loss", "training loss at the end", 4),
        Column("test_accuracy", "test accuracy at the end", 1, percent=True),
        Column("steps", f"steps to {LEVEL:.0%}", 0),
        *(
            Column(f"ms_{u}", f"ms of processor time per step of {TIMED_BATCH}, {u} units")
            for u in TIMED_WIDTHS
        ),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, setting, results))


def _draw(setting: StudySettings, results: Mapping[str, dict], figure: Any) -> None:
    small, large, times = figure.subplots(1, 3)
    for number, (mode, name) in enumerate(NAMES.items()):
        for axes, (batch, rate) in ((small, TRAININGS[1]), (large, TRAININGS[2])):
            kind = f"{mode}.{batch}.{rate:g}"
            curves = [results[f"{kind}.{seed}"]["curve"] for seed in range(setting.seeds)]
            steps, means = mean_curve(curves, "loss")
            axes.plot(steps, means, label=name, **line_style(number, len(steps)))
            finish_axes(axes, title=f"learning rate {rate:g}, {batch} images per step")
        points = [{"x": u, "y": results[f"time.{u}"][mode], "y_sd": None} for u in TIMED_WIDTHS]
        plot_rows(times, points, "x", "y", number, label=name)
    for axes in (small, large):
        axes.set(xlabel="steps", ylabel="training loss (nats)", yscale="log")
    finish_axes(
        times,
        xlabel="activations of a layer",
        ylabel="ms of processor time per step",
        yscale="log",
        title=f"time, {TIMED_BATCH} images per step",
    )
