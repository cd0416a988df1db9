# SPDX-License-Identifier: Apache-2.0
"""FID in a training loop: a small variational autoencoder on digits, its samples compared with real ones after each epoch.

    python examples/fid_in_training.py --epochs 10

The features are those of Inception V1's first blocks with random weights, which is enough to see samples come nearer to the
digits; for figures that are compared with published ones use the network of FID (`weights="fid_2015"`) on images, or
`inception-tf fid`; with `fit` the callback `inception_tf.generative.FID`.  The statistics of the real images are computed once; those of the samples grow batch by batch.
"""

from __future__ import annotations

import click
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import inception_tf
from inception_tf.generative import FeatureStatistics, frechet_distance

CODE, BATCH, SIZE = 8, 64, 32  # numbers in a code, images in a batch, pixels that the network sees
ENDPOINT = "MaxPool_3a_3x3"
WIDTH = 0.25  # of the network: 48 features


def feature_network(real: np.ndarray) -> keras.Model:
    """Images (N, 8, 8) in [0, 1] → features (N, D), averaged over the places, of variance 1 over the real images."""
    network = inception_tf.InceptionV1(input_shape=(SIZE, SIZE, 3), width_multiplier=WIDTH)
    images = keras.Input((8, 8))
    x = keras.layers.Reshape((8, 8, 1))(images * 2 - 1)
    x = keras.layers.UpSampling2D(SIZE // 8)(x)
    x = keras.layers.Concatenate()([x, x, x])
    maps = keras.Model(network.input, inception_tf.endpoints(network)[ENDPOINT])(x)
    means = keras.Model(images, keras.layers.GlobalAveragePooling2D()(maps))
    scale = keras.layers.Normalization()
    scale.adapt(np.asarray(means(real, training=False)))
    return keras.Model(images, scale(means.output))


def statistics_of(features: keras.Model, images: np.ndarray) -> FeatureStatistics:
    """Mean and covariance of the features, batch by batch."""
    found = FeatureStatistics()
    for start in range(0, len(images), BATCH):
        found.update(np.asarray(features(images[start : start + BATCH], training=False)))
    return found


def coder(outputs: int, inputs: int, activation: str | None) -> keras.Model:
    """Two dense layers."""
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(outputs, activation)]
    return keras.Sequential([keras.Input((inputs,)), *layers])


@click.command(help=__doc__.partition("\n")[0])
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--samples", default=512, show_default=True, type=click.IntRange(min=64))
def main(epochs, samples):
    keras.utils.set_random_seed(0)
    real = (load_digits().images / 16).astype(np.float32)
    features = feature_network(real)
    reference = statistics_of(features, real)
    encoder, decoder = coder(2 * CODE, 64, None), coder(64, CODE, "sigmoid")
    optimizer = keras.optimizers.Adam(2e-3)
    variables = [*encoder.trainable_variables, *decoder.trainable_variables]

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(encoder(batch), 2, axis=1)
            code = mean + tf.exp(log_variance / 2) * tf.random.normal(tf.shape(mean))
            error = tf.reduce_sum(keras.losses.binary_crossentropy(batch, decoder(code)) * 64)
            divergence = tf.reduce_sum(tf.exp(log_variance) + mean**2 - 1 - log_variance) / 2
            loss = (error + divergence) / BATCH
        optimizer.apply(tape.gradient(loss, variables), variables)

    codes = np.random.default_rng(1).normal(size=(samples, CODE)).astype(np.float32)
    flat = real.reshape(-1, 64)
    for epoch in range(epochs + 1):
        if epoch:
            order = np.random.default_rng(epoch).permutation(len(flat))
            for start in range(0, len(flat) - BATCH + 1, BATCH):
                step(tf.constant(flat[order[start : start + BATCH]]))
        drawn = np.asarray(decoder(codes)).reshape(-1, 8, 8)
        distance = frechet_distance(reference, statistics_of(features, drawn), allow_singular=True)
        print(f"epoch {epoch}: FID {distance:.3g} of {samples} samples", flush=True)


if __name__ == "__main__":
    main()
