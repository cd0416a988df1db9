# SPDX-License-Identifier: Apache-2.0
"""Asynchronous stochastic gradient descent, as the paper trained: Ioffe and Szegedy 2015, section 4.2.

A simulation in one process of what ten replicas with five concurrent steps each do to the gradients: fifty steps
are under way, each on the weights that it read at its start; whichever ends next, drawn at random, has its gradient
applied to the newest weights, with momentum, and starts again on these.  A gradient is so 49 updates old on average.
It does not simulate time, the network between machines, or servers that hold parts of the weights.

Beside it, at equal images: one worker whose gradients are never old, and the mean of fifty gradients in one update.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, numbers, plot_rows
from inception_tf.experiments.loop import (
    cross_entropy,
    image_order,
    predicted_logits,
    scores,
    to_unit,
)
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["Simulation", "make_study", "order_of_ends"]

SIZE = 8  # pixels, height and width
REPLICAS, CONCURRENT = 10, 5
WORKERS = REPLICAS * CONCURRENT
BATCH = 32  # images of a gradient, the paper's
MOMENTUM = 0.9
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
UNITS = 64
ONE, ASYNCHRONOUS, SYNCHRONOUS = "one", "asynchronous", "synchronous"
NAMES = {
    ONE: "one worker, no stale gradient",
    ASYNCHRONOUS: f"asynchronous, {REPLICAS} replicas with {CONCURRENT} steps each",
    SYNCHRONOUS: f"synchronous, {WORKERS} gradients in one update",
}


def order_of_ends(steps: int, workers: int, seed: int) -> np.ndarray:
    """Draws which of the concurrent steps ends next, uniformly.

    Args:
        steps: the number of ends.
        workers: how many steps are under way at any time.
        seed: of the draw.

    Returns:
        (steps,) int32, numbers of workers.
    """
    return np.random.default_rng(seed).integers(0, workers, steps).astype(np.int32)


class Simulation:
    """Weights on a server, the copies that the workers read, and the update with momentum.

    Args:
        model: (N, S, S, 3) → logits; its trainable weights are those of the server.
        workers: concurrent steps, each with a copy of all weights.
        learning_rate: of the update.
    """

    def __init__(self, model: keras.Model, workers: int, learning_rate: float):
        self.model = model
        self.weights = [variable.value for variable in model.trainable_variables]
        self.copies = [
            tf.Variable(tf.repeat(weight[None], workers, axis=0)) for weight in self.weights
        ]
        self.velocities = [tf.Variable(tf.zeros_like(weight)) for weight in self.weights]
        self.learning_rate = learning_rate

    def step(self, worker: tf.Tensor, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Ends a worker's step: its gradient updates the server, whose weights the worker then reads.

        Args:
            worker: () int32, its number.
            images: (B, S, S, 3) float32 in [-1, 1].
            classes: (B,) int32.

        Returns:
            () float32, the loss of the worker's step.
        """
        newest = [tf.identity(weight) for weight in self.weights]
        for weight, copies in zip(self.weights, self.copies, strict=True):
            weight.assign(copies[worker])
        gradients, loss = self._gradients(images, classes)
        for weight, value in zip(self.weights, newest, strict=True):
            weight.assign(value)
        self._update(gradients)
        for weight, copies in zip(self.weights, self.copies, strict=True):
            copies.scatter_nd_update([[worker]], [tf.identity(weight)])
        return loss

    def joint_step(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Updates the server by the mean of the gradients of several batches.

        Args:
            images: (K, B, S, S, 3) float32 in [-1, 1].
            classes: (K, B) int32.

        Returns:
            () float32, the mean loss.
        """
        sums = [tf.zeros_like(weight) for weight in self.weights]
        total = tf.constant(0.0)
        for number in tf.range(tf.shape(images)[0]):
            gradients, loss = self._gradients(images[number], classes[number])
            sums = [old + gradient for old, gradient in zip(sums, gradients, strict=True)]
            total += loss
        count = tf.cast(tf.shape(images)[0], tf.float32)
        self._update([value / count for value in sums])
        return total / count

    def _gradients(self, images: tf.Tensor, classes: tf.Tensor) -> tuple[list, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = cross_entropy(self.model(images, training=True), classes)
        return tape.gradient(loss, self.weights), loss

    def _update(self, gradients: list) -> None:
        for weight, velocity, gradient in zip(
            self.weights, self.velocities, gradients, strict=True
        ):
            velocity.assign(MOMENTUM * velocity - self.learning_rate * gradient)
            weight.assign_add(velocity)


def make_study(setting: StudySettings) -> Study:
    """Three ways to use the same images at seven learning rates, `steps` gradients rounded up to whole fifties; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    kinds = {f"{way}.{rate:g}": (way, rate) for rate in LEARNING_RATES for way in NAMES}
    trials = {
        name: functools.partial(_train, data, *kinds[kind], seed, setting.steps)
        for name, kind, seed in seeds_of(setting, kinds)
    }
    return Study(data.counts, trials, functools.partial(_summarize, setting), (8.5, 3.8))


def _train(data: Arrays, way: str, rate: float, seed: int, steps: int) -> dict:
    steps = WORKERS * math.ceil(steps / WORKERS)
    model = _network(len(data.labels), seed)
    simulation = Simulation(model, WORKERS if way == ASYNCHRONOUS else 1, rate)
    shown = image_order(steps, BATCH, len(data.images), seed)
    ends = order_of_ends(steps, WORKERS if way == ASYNCHRONOUS else 1, seed)
    run = _runner(simulation, data, joint=way == SYNCHRONOUS)
    loss = float("nan")
    for begin in range(0, steps, WORKERS):
        part = slice(begin, begin + WORKERS)
        loss = float(run(shown[part], ends[part]))
        if not math.isfinite(loss):
            break
    found = scores(predicted_logits(model)(data.test_images), data.test_classes)
    return {"loss": loss if math.isfinite(loss) else None, **found}


def _network(classes: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.ops.mean(images, axis=-1))
    for _ in range(2):
        x = keras.layers.Dense(UNITS, use_bias=False, kernel_initializer="he_normal")(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM)(x)
        x = keras.layers.Activation("relu")(x)
    return keras.Model(images, keras.layers.Dense(classes)(x))


def _runner(simulation: Simulation, data: Arrays, *, joint: bool) -> Callable:
    """A function of the images (K, B) and workers (K,) of K gradients → the mean loss."""
    images, classes = tf.constant(data.images), tf.constant(data.classes)

    @tf.function(
        input_signature=[tf.TensorSpec((None, BATCH), tf.int32), tf.TensorSpec((None,), tf.int32)]
    )
    def run(shown, ends):
        if joint:
            return simulation.joint_step(
                to_unit(tf.gather(images, shown)), tf.gather(classes, shown)
            )
        total = tf.constant(0.0)
        for number in tf.range(tf.shape(shown)[0]):
            batch = shown[number]
            total += simulation.step(
                ends[number], to_unit(tf.gather(images, batch)), tf.gather(classes, batch)
            )
        return total / tf.cast(tf.shape(shown)[0], tf.float32)

    return run


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    rows: list[dict[str, Any]] = []
    for way, name in NAMES.items():
        for rate in LEARNING_RATES:
            found = [results[f"{way}.{rate:g}.{seed}"] for seed in range(setting.seeds)]
            row: dict[str, Any] = {"way": name, "learning_rate": rate}
            for key in ("loss", "test_accuracy"):
                row |= mean_and_spread(key, (one[key] for one in found))
            row["infinite"] = sum(one["loss"] is None for one in found)
            rows.append(row)
    loss = np.nan_to_num(numbers(rows, "loss"), nan=np.inf).reshape(len(NAMES), -1)
    best = {way: float(values.min()) for way, values in zip(NAMES, loss, strict=True)}
    best_rate = [LEARNING_RATES[int(values.argmin())] for values in loss]
    holds = {
        "one worker has the lowest training loss, each method at its best learning rate": best[ONE]
        == min(best.values()),
        "asynchronous training has a lower loss than synchronous training at equal images": best[
            ASYNCHRONOUS
        ]
        < best[SYNCHRONOUS],
        f"stale gradients need a lower learning rate: the best is {best_rate[1]:g}, and {best_rate[0]:g} for one"
        " worker": best_rate[1] < best_rate[0],
    }
    columns = (
        Column("way", "gradients"),
        Column("learning_rate", "learning rate", 3),
        Column("loss", "training loss of the last 50 gradients", 3),
        Column("test_accuracy", "test accuracy", 1, percent=True),
        Column("infinite", "trainings that became infinite"),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, rows))


def _draw(rows: list[dict], figure: Any) -> None:
    accuracies, losses = figure.subplots(1, 2)
    count = len(LEARNING_RATES)
    for number in range(len(NAMES)):
        part = rows[number * count : (number + 1) * count]
        label = part[0]["way"]
        plot_rows(
            accuracies, part, "learning_rate", "test_accuracy", number, label=label, factor=100
        )
        plot_rows(losses, part, "learning_rate", "loss", number, label=label)
    finish_axes(
        accuracies,
        xlabel="learning rate",
        ylabel="test accuracy (%)",
        xscale="log",
        title="(a) test accuracy",
    )
    finish_axes(
        losses,
        xlabel="learning rate",
        ylabel="training loss (nats)",
        xscale="log",
        yscale="log",
        ylim=(3e-3, 30),  # above it nothing is learned
        title="(b) training loss",
    )
