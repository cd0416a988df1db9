# SPDX-License-Identifier: Apache-2.0
"""A network of the documents' blocks, trained by a loop of your own: two 3x3 convolutions in place of 5x5, beside the 5x5.

    python examples/own_training_loop.py --steps 300

Nothing here needs `inception-tf train`: blocks are functions of Keras tensors, and the loop is a gradient tape and an
optimizer.  The digits of scikit-learn, 1,437 to train on and 360 to test, come with it.
"""

from __future__ import annotations

import click
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import inception_tf

CLASSES, BATCH, TRAIN = 10, 64, 1437
FILTERS = (16, 32)


def plain_5x5(x, filters):
    """What `factorized_5x5` stands in place of, with the same normalization."""
    x = keras.layers.Conv2D(filters, 5, padding="same", use_bias=False)(x)
    return keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))


def factorized_5x5(x, filters):
    """The block of this package."""
    return inception_tf.factorized_5x5(x, filters, batch_norm_momentum=0.9)


def network(block) -> keras.Model:
    """Blocks with max pooling after each, and a classifier."""
    x = images = keras.Input((8, 8, 1))
    for filters in FILTERS:
        x = keras.layers.MaxPooling2D(2)(block(x, filters))
    logits = keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, logits)


def train(model: keras.Model, images: np.ndarray, labels: np.ndarray, steps: int) -> None:
    """The loop: draw a batch, compute the loss, follow its gradient."""
    optimizer = keras.optimizers.Adam(3e-3)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True)) + sum(model.losses)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    random = np.random.default_rng(0)
    for number in range(1, steps + 1):
        chosen = random.choice(len(images), BATCH, replace=False)
        loss = step(tf.constant(images[chosen]), tf.constant(labels[chosen]))
        if number == steps or number % 100 == 0:
            print(f"  step {number}: loss {float(loss):.3f}", flush=True)


def accuracy(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of right answers."""
    return float(np.mean(np.asarray(model(images, training=False)).argmax(1) == labels))


@click.command(help=__doc__.partition("\n")[0])
@click.option("--steps", default=300, show_default=True, type=click.IntRange(min=1))
def main(steps):
    digits = load_digits()
    images = (digits.images[..., np.newaxis] / 8 - 1).astype(np.float32)  # -1 to 1
    for block in (plain_5x5, factorized_5x5):
        keras.utils.set_random_seed(0)
        model = network(block)
        print(f"{block.__name__}: {model.count_params():,} parameters")
        train(model, images[:TRAIN], digits.target[:TRAIN], steps)
        found = accuracy(model, images[TRAIN:], digits.target[TRAIN:])
        print(f"  {found:.1%} of {len(images) - TRAIN} test images")


if __name__ == "__main__":
    main()
