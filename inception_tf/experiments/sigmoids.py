# SPDX-License-Identifier: Apache-2.0
"""The sigmoid network of Ioffe and Szegedy 2015, section 4.1, with and without batch normalization, and its training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.experiments.loop import cross_entropy, image_order, step_runner
from inception_tf.experiments.mnist import BinaryMnist
from inception_tf.training.optim.recalibrate import recalibrate

__all__ = [
    "MnistSettings",
    "NETWORKS",
    "PERCENTILES",
    "TYPICAL",
    "Trace",
    "build_network",
    "train_network",
]

NETWORKS = ("without BN", "with BN")
PERCENTILES = (15, 50, 85)
HIDDEN, UNITS, CLASSES, PIXELS = 3, 100, 10, 28 * 28  # as the paper has them
# Before training all sigmoids of a layer have the same distribution: the first is as typical as any,
# and is not chosen by its result.
TYPICAL = 0
PROBES = (
    100  # mini-batches that the percentiles and the statistics of Algorithm 2 are computed over
)
LOG_EVERY = 5000  # steps between two lines of progress


@dataclass(frozen=True)
class MnistSettings:
    """The settings of both networks; steps and batch size are the paper's."""

    steps: int = 50_000
    batch_size: int = 60  # images per step
    seed: int = 0  # of the initial weights and of the order of the images
    learning_rate: float = 0.3  # of plain gradient descent, constant; others in docs/bn-mnist.md
    initial_deviation: float = 0.1  # of the Gaussian that the weights are drawn from, mean 0
    momentum: float = 0.9  # fraction of the moving mean and variance kept at each step
    epsilon: float = 1e-3  # added to a variance, Keras' default
    every: int = 100  # steps between two measurements

    def __post_init__(self):
        for name in ("steps", "batch_size", "every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more, got {self.seed}")
        for name in ("learning_rate", "initial_deviation"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} must be above 0 and finite, got {getattr(self, name)}")


@dataclass(frozen=True)
class Trace:
    """Measurements of a network during its training: before the first step, at regular steps, and after the last."""

    steps: np.ndarray  # (T,) int64, steps done
    # (T,) float64 in [0, 1], on the test images, normalized by the moving statistics
    accuracy: np.ndarray
    # (T, 3, 100) float64, the 15th, 50th and 85th of the input of each sigmoid of the last hidden layer,
    # with each mini-batch's own statistics
    percentiles: np.ndarray
    population_accuracy: float  # after the last step, with the statistics of Algorithm 2


def build_network(setting: MnistSettings, batch_norm: bool) -> keras.Model:
    """Builds one of the two networks.

    Both draw the same weights.  With batch normalization the hidden layers have no bias, because beta takes
    its place (section 3.2).

    Args:
        setting: of both networks.
        batch_norm: which of the two.

    Returns:
        A model (N, 784) float32 → logits (N, 10), and the inputs of the last hidden layer's sigmoids (N, 100).
    """
    image = x = keras.Input((PIXELS,))
    for number in range(1, HIDDEN + 1):
        x = _dense(setting, UNITS, number, use_bias=not batch_norm)(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(
                momentum=setting.momentum, epsilon=setting.epsilon, name=f"norm_{number}"
            )(x)
        inner = x
        x = keras.layers.Activation("sigmoid", name=f"sigmoid_{number}")(x)
    return keras.Model(image, [_dense(setting, CLASSES, HIDDEN + 1)(x), inner])


def train_network(
    data: BinaryMnist, setting: MnistSettings, batch_norm: bool, log: Callable[[str], None]
) -> Trace:
    """Trains one of the two networks from its first step to its last.

    Args:
        data: MNIST.
        setting: of both networks.
        batch_norm: which of the two.
        log: called with lines of progress.

    Returns:
        Its measurements.

    Raises:
        UserError: the network diverges.
    """
    model = build_network(setting, batch_norm)
    name = NETWORKS[batch_norm]
    steps = _stepper(model, setting, data)
    measure = _measurer(model, setting, data)
    shown = image_order(setting.steps, setting.batch_size, len(data.images), setting.seed)
    moments = [*range(0, setting.steps, setting.every), setting.steps]
    measured = [measure()]
    for begin, end in itertools.pairwise(moments):
        steps(shown[begin:end], begin)
        measured.append(measure())
        accuracy, percentiles = measured[-1]
        if not np.isfinite(percentiles).all():
            raise UserError(
                f"the network {name} is no longer finite at step {end};"
                f" use a learning rate below {setting.learning_rate:g}"
            )
        if end // LOG_EVERY > begin // LOG_EVERY or end == setting.steps:
            log(f"{name}: step {end:,} of {setting.steps:,}, test accuracy {accuracy:.2%}")
    accuracy, percentiles = zip(*measured, strict=True)
    if batch_norm:
        recalibrate(model, _probe(data, setting), PROBES)
    return Trace(np.array(moments), np.array(accuracy), np.array(percentiles), measure()[0])


def _dense(
    setting: MnistSettings, units: int, number: int, use_bias: bool = True
) -> keras.layers.Layer:
    initializer = keras.initializers.RandomNormal(
        stddev=setting.initial_deviation, seed=setting.seed * (HIDDEN + 1) + number
    )
    return keras.layers.Dense(
        units, use_bias=use_bias, kernel_initializer=initializer, name=f"dense_{number}"
    )


def _probe(data: BinaryMnist, setting: MnistSettings) -> np.ndarray:
    """The mini-batches that are measured, (PROBES, batch_size, 784): the first training images."""
    return data.images[: PROBES * setting.batch_size].reshape(PROBES, setting.batch_size, PIXELS)


def _stepper(model: keras.Model, setting: MnistSettings, data: BinaryMnist) -> Callable:
    images, classes = tf.constant(data.images), tf.constant(data.classes)
    return step_runner(
        model,
        keras.optimizers.SGD(setting.learning_rate),
        lambda batch, _: (tf.gather(images, batch), tf.gather(classes, batch)),
        lambda outputs, targets: cross_entropy(outputs[0], targets),
        setting.batch_size,
    )


def _measurer(model: keras.Model, setting: MnistSettings, data: BinaryMnist) -> Callable:
    """A function without arguments → the test accuracy, float, and (3, 100) percentiles; it changes nothing."""
    probe = tf.constant(_probe(data, setting))
    images = tf.constant(data.test_images)

    @tf.function
    def predicted_classes():
        return tf.argmax(model(images, training=False)[0], axis=-1)

    @tf.function
    def inputs():
        # A call in training mode updates the moving statistics: they are restored.
        before = [v.value + 0.0 for v in model.non_trainable_variables]
        found = tf.map_fn(lambda batch: model(batch, training=True)[1], probe)
        for variable, value in zip(model.non_trainable_variables, before, strict=True):
            variable.assign(value)
        return tf.reshape(found, (-1, UNITS))

    def measure():
        accuracy = np.mean(predicted_classes().numpy() == data.test_classes)
        return accuracy, np.percentile(inputs().numpy(), PERCENTILES, axis=0)

    return measure
