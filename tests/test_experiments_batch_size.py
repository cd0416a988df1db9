# SPDX-License-Identifier: Apache-2.0
"""Batch normalization by groups of a batch: Keras' layer on each group, moving averages in inference."""

from __future__ import annotations

import keras
import numpy as np

from inception_tf.experiments.studies.batch_size import EPSILON, GroupedBatchNormalization

IMAGES = np.random.default_rng(0).normal(2, 3, (8, 4, 4, 5)).astype(np.float32)


def test_each_group_is_normalized_as_keras_does_it():
    ours = GroupedBatchNormalization(2)(IMAGES, training=True)
    for begin in range(0, 8, 2):
        theirs = keras.layers.BatchNormalization(epsilon=EPSILON)(
            IMAGES[begin : begin + 2], training=True
        )
        np.testing.assert_allclose(ours[begin : begin + 2], theirs, rtol=1e-4, atol=1e-5)
    whole = keras.layers.BatchNormalization(epsilon=EPSILON)(IMAGES, training=True)
    np.testing.assert_allclose(
        GroupedBatchNormalization(8)(IMAGES, training=True), whole, rtol=1e-4, atol=1e-5
    )
    assert np.abs(ours - whole).max() > 0.1


def test_inference_uses_averages_of_the_groups_statistics():
    layer = GroupedBatchNormalization(4)
    for _ in range(300):
        layer(IMAGES, training=True)
    groups = IMAGES.reshape(2, -1, 5)
    np.testing.assert_allclose(layer.mean, groups.mean(axis=1).mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(layer.variance, groups.var(axis=1).mean(axis=0), rtol=1e-3)
    expected = (IMAGES - layer.mean) / np.sqrt(layer.variance + EPSILON)
    np.testing.assert_allclose(layer(IMAGES, training=False), expected, rtol=1e-3, atol=1e-4)
