# SPDX-License-Identifier: Apache-2.0
"""The training loop of the small experiments: images in memory, many steps in one call, measured at regular steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.experiments.arrays import Arrays

__all__ = [
    "LoopSettings",
    "cross_entropy",
    "image_order",
    "predicted_logits",
    "random_crops",
    "scores",
    "step_runner",
    "to_unit",
    "train_loop",
]

CHUNK = 500  # images of one call in evaluation
PADDING = 4  # pixels around an image before a random crop, as usual on CIFAR-10


@dataclass(frozen=True)
class LoopSettings:
    """The length of a training and what it depends on."""

    steps: int
    batch_size: int  # images per step
    every: int  # steps between two measurements
    seed: int  # of the order of the images and of the augmentation
    augment: bool = False  # random crops and flips


def image_order(steps: int, batch_size: int, images: int, seed: int) -> np.ndarray:
    """The images of each step: a new permutation of all of them for each epoch.

    Args:
        steps: of the training.
        batch_size: images per step.
        images: the number of training images.
        seed: of the permutations.

    Returns:
        (steps, batch_size) int32, indices.
    """
    generator = np.random.default_rng(seed)
    needed = steps * batch_size
    epochs = [generator.permutation(images) for _ in range(math.ceil(needed / images))]
    return np.concatenate(epochs)[:needed].astype(np.int32).reshape(steps, -1)


def to_unit(images: Any) -> Any:
    """Scales levels to [-1, 1], as the networks take them.

    Args:
        images: (...) uint8.

    Returns:
        (...) float32.
    """
    return tf.cast(images, tf.float32) / 127.5 - 1


def cross_entropy(outputs: Any, classes: Any) -> Any:
    """The mean cross-entropy, in nats, of a model with one output.

    Args:
        outputs: logits (N, K).
        classes: (N,) int32.

    Returns:
        () float32.
    """
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(classes, outputs)


def step_runner(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    examples: Callable[[Any, Any], tuple],
    loss: Callable[[Any, Any], Any],
    batch_size: int,
) -> Callable:
    """Makes the function that trains several steps in one call.

    Args:
        model: in training mode; the losses of its layers, such as weight decay, are added.
        optimizer: of its weights.
        examples: from indices (B,) int32 and the number of the step, () int32, to inputs and targets.
        loss: from outputs and targets to ().
        batch_size: images per step.

    Returns:
        A function of (K, batch_size) int32, the images of K steps, and of the number of the first step.  It runs
        these steps and gives the mean of their losses, () float32.
    """
    optimizer.build(model.trainable_variables)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, batch_size), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
    )
    def steps(shown, first):
        total, number = tf.constant(0.0), first
        for batch in shown:
            inputs, targets = examples(batch, number)
            with tf.GradientTape() as tape:
                value = loss(model(inputs, training=True), targets)
                whole = value + sum(model.losses)
            gradients = tape.gradient(whole, model.trainable_weights)
            optimizer.apply(gradients, model.trainable_weights)
            total, number = total + tf.cast(value, tf.float32), number + 1
        return total / tf.cast(tf.shape(shown)[0], tf.float32)

    return steps


def train_loop(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    data: Arrays,
    setting: LoopSettings,
    *,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    logits: Callable[[Any], Any] = lambda outputs: outputs,
    measure: Callable[[], dict] = dict,
) -> list[dict]:
    """Trains a model from its first step to its last, or until it is no longer finite.

    Args:
        model: (N, S, S, 3) float32 in [-1, 1] → outputs.
        optimizer: of its weights, new.
        data: the images.
        setting: of the loop.
        loss: from outputs and classes to ().
        logits: from outputs to logits (N, K), for the accuracy.
        measure: gives further numbers for a row.

    Returns:
        A row before the first step and every `setting.every` steps: `step`; `loss`, the mean of the training loss
        since the row before, None in the first; `test_loss` and `test_accuracy`; what `measure` gives.  The last
        row of a training that diverged has a loss that is not finite, as None.
    """
    images, classes = tf.constant(data.images), tf.constant(data.classes)

    def examples(batch, number):
        found = tf.gather(images, batch)
        if setting.augment:
            found = random_crops(found, tf.stack([setting.seed, number]))
        return to_unit(found), tf.gather(classes, batch)

    run = step_runner(model, optimizer, examples, loss, setting.batch_size)
    shown = image_order(setting.steps, setting.batch_size, len(data.images), setting.seed)
    predict = predicted_logits(model, logits)

    def row(step, value):
        found = scores(predict(data.test_images), data.test_classes)
        return {"step": step, "loss": value} | found | measure()

    moments = [*range(0, setting.steps, setting.every), setting.steps]
    rows = [row(0, None)]
    for begin, end in itertools.pairwise(moments):
        value = float(run(shown[begin:end], begin))
        rows.append(row(end, value if math.isfinite(value) else None))
        if rows[-1]["loss"] is None:
            break
    return rows


def random_crops(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Moves each image by up to four pixels, the border reflected, and flips half of them.

    Args:
        images: (N, S, S, 3).
        seed: (2,) int32.

    Returns:
        (N, S, S, 3) of the same type.
    """
    count, size = tf.shape(images)[0], images.shape[1]
    padding = min(PADDING, size // 2)
    padded = tf.pad(images, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]], "REFLECT")
    drawn = tf.random.stateless_uniform((3, count), seed, 0, 2 * padding + 1, tf.int32)
    span = tf.range(size)
    rows = tf.gather(padded, drawn[0][:, None] + span, axis=1, batch_dims=1)
    flipped = (drawn[2] > padding)[:, None]
    columns = drawn[1][:, None] + tf.where(flipped, span[::-1], span)
    return tf.ensure_shape(tf.gather(rows, columns, axis=2, batch_dims=1), images.shape)


def predicted_logits(
    model: keras.Model, logits: Callable[[Any], Any] = lambda outputs: outputs
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the function that runs a model on images, in inference mode.

    Args:
        model: (N, S, S, 3) float32 in [-1, 1] → outputs.
        logits: from outputs to logits (N, K).

    Returns:
        A function from (N, S, S, 3) uint8 to (N, K) float32.
    """

    @tf.function
    def chunk(images):
        return logits(model(to_unit(images), training=False))

    def predict(images):
        parts = (images[n : n + CHUNK] for n in range(0, len(images), CHUNK))
        return np.concatenate([chunk(tf.constant(part)).numpy() for part in parts])

    return predict


def scores(logits: np.ndarray, classes: np.ndarray) -> dict[str, float | None]:
    """Accuracy and cross-entropy on test images.

    Args:
        logits: (N, K).
        classes: (N,).

    Returns:
        `test_accuracy` in [0, 1], and `test_loss` in nats, None where it is not finite.
    """
    loss = float(cross_entropy(tf.constant(logits), tf.constant(classes)))
    accuracy = float(np.mean(np.argmax(logits, axis=-1) == classes))
    return {"test_accuracy": accuracy, "test_loss": loss if math.isfinite(loss) else None}
