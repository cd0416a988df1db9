# SPDX-License-Identifier: Apache-2.0
"""Batch normalization by hand beside the layer: outputs, gradients, moving averages, and evaluation.

    python examples/batch_norm_by_hand.py

Ioffe and Szegedy 2015, arXiv 1502.03167: Algorithm 1 and the gradients below it, for feature maps, on real images.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

EPSILON, MOMENTUM = 1e-3, 0.9
PLACES = (0, 1, 2)  # a channel's statistics are over images, rows and columns


def forward(x, gamma, beta):
    """Algorithm 1.  What the gradient needs of it comes too."""
    mean, variance = x.mean(PLACES), x.var(PLACES)
    normalized = (x - mean) / np.sqrt(variance + EPSILON)
    return gamma * normalized + beta, (normalized, variance, mean)


def backward(gradient, kept, gamma):
    """The gradients of x, gamma and beta.  Mean and variance depend on x too: these are the two terms in the middle."""
    normalized, variance, _ = kept
    of_normalized = gradient * gamma
    of_x = (
        of_normalized
        - of_normalized.mean(PLACES)
        - normalized * (of_normalized * normalized).mean(PLACES)
    ) / np.sqrt(variance + EPSILON)
    return of_x, (gradient * normalized).sum(PLACES), gradient.sum(PLACES)


def main() -> None:
    images = load_digits().images[:32, ..., np.newaxis]
    kernel = np.random.default_rng(0).normal(0, 0.3, (1, 1, 1, 8))
    x = np.asarray(tf.nn.relu(images * kernel[0, 0]))  # (32, 8, 8, 8) float64
    gamma, beta = np.linspace(0.5, 2, 8), np.linspace(-1, 1, 8)
    weights = np.random.default_rng(1).normal(0, 1, x.shape)  # of the outputs in a loss

    layer = keras.layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([gamma, beta, np.zeros(8), np.ones(8)])
    with tf.GradientTape() as tape:
        inputs = tf.Variable(x)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs * weights)
    gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])

    by_hand, kept = forward(x, gamma, beta)
    _, variance, mean = kept
    averages = (1 - MOMENTUM) * mean, MOMENTUM + (1 - MOMENTUM) * variance
    evaluated = gamma * (x - averages[0]) / np.sqrt(averages[1] + EPSILON) + beta
    of_x, of_gamma, of_beta = backward(weights, kept, gamma)
    rows = {
        "outputs in training": (by_hand, outputs),
        "gradient of the input": (of_x, gradients[0]),
        "gradient of gamma": (of_gamma, gradients[1]),
        "gradient of beta": (of_beta, gradients[2]),
        "moving mean": (averages[0], layer.moving_mean),
        "moving variance": (averages[1], layer.moving_variance),
        "outputs in evaluation": (evaluated, layer(x, training=False)),
    }
    for what, (hand, by_layer) in rows.items():
        print(f"{what:24}largest difference {np.abs(hand - np.asarray(by_layer)).max():.0e}")
    evaluation = np.abs(np.asarray(layer(x[:1], training=False))[0] - evaluated[0]).max()
    training = np.abs(np.asarray(layer(x[:1], training=True))[0] - by_hand[0]).max()
    print(
        f"one image alone, and in its batch: {training:.2f} in training, {evaluation:.0e} in evaluation"
    )


if __name__ == "__main__":
    main()
