# SPDX-License-Identifier: Apache-2.0
"""Full whitening: its outputs are white, its gradient is that of Cov^-1/2, inference uses moving statistics."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from inception_tf.experiments.arrays import load_arrays
from inception_tf.experiments.studies import whitening
from inception_tf.experiments.studies.whitening import Whitening, inverse_root


def correlated(count=200, channels=5, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(channels, channels))
    return (generator.normal(size=(count, channels)) @ mixing + 3).astype(np.float32)


def test_the_outputs_have_mean_zero_and_the_identity_as_covariance():
    outputs = Whitening()(correlated(), training=True).numpy()
    np.testing.assert_allclose(outputs.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(outputs.T, bias=True), np.eye(5), atol=0.03)


def test_the_root_is_symmetric_and_its_square_the_inverse():
    covariance = np.cov(correlated().astype(np.float64).T)
    root = inverse_root(tf.constant(covariance)).numpy()
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    np.testing.assert_allclose(root @ root @ covariance, np.eye(5), atol=1e-9)


def test_the_gradient_is_that_of_the_finite_difference_also_at_equal_eigenvalues():
    weights = np.random.default_rng(1).normal(size=(4, 4))
    direction = np.random.default_rng(2).normal(size=(4, 4))
    direction = direction + direction.T  # a covariance moves symmetrically
    for covariance in (np.diag([1.0, 2.0, 3.0, 5.0]), 2 * np.eye(4)):
        matrix = tf.constant(covariance)
        with tf.GradientTape() as tape:
            tape.watch(matrix)
            loss = tf.reduce_sum(inverse_root(matrix) * weights)
        gradient = tape.gradient(loss, matrix).numpy()

        def value(step, base=covariance):
            return np.sum(inverse_root(tf.constant(base + step * direction)).numpy() * weights)

        difference = (value(1e-5) - value(-1e-5)) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6)


def test_inference_uses_the_moving_statistics():
    layer, images = Whitening(), correlated()
    for _ in range(200):
        layer(images, training=True)
    np.testing.assert_allclose(
        layer(images, training=False), layer(images, training=True), atol=1e-3
    )
    first = layer(images[:1], training=False)
    np.testing.assert_allclose(first, layer(images, training=False)[:1], atol=1e-5)


def test_fewer_images_than_activations_have_a_singular_covariance():
    ranks = whitening._ranks(load_arrays("digits", 8))
    assert {int(count): rank for count, rank in ranks.items()} == {
        count: min(count - 1, 32) for count in whitening.RANK_BATCHES
    }
