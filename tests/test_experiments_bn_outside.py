# SPDX-License-Identifier: Apache-2.0
"""Normalization outside of the gradient step: section 2's example to the last bit, and the network's gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf.experiments.arrays import load_arrays
from inception_tf.experiments.studies import bn_outside
from inception_tf.experiments.studies.bn_outside import (
    INSIDE,
    NONE,
    OUTSIDE_BOTH,
    OUTSIDE_MEAN,
    Normalized,
    train_layer,
)


@pytest.fixture(scope="module")
def data():
    return load_arrays("digits", 8)


def test_the_bias_grows_by_the_same_amount_at_each_step_and_the_loss_is_the_same_number(data):
    found = train_layer(data, OUTSIDE_MEAN, 300)
    counts = np.bincount(data.classes[:1024])
    growth = counts.max() / 1024 * bn_outside.LAYER_RATE  # the mean of a one-hot target
    assert found["b"] == [step * growth for step in range(301)]
    assert len(set(found["loss"])) == 1


def test_with_the_mean_inside_the_bias_stays(data):
    assert max(train_layer(data, INSIDE, 300)["b"]) < 1e-12


def test_with_the_deviation_outside_a_scale_runs_to_zero_and_the_bias_jumps(data):
    mean, both = (train_layer(data, mode, 20) for mode in (OUTSIDE_MEAN, OUTSIDE_BOTH))
    assert both["b"][-1] > 100 * mean["b"][-1]
    assert both["loss"][1] == pytest.approx(both["loss"][0], abs=1e-12)  # of the first steps
    assert both["a"][1] < both["a"][0]


@pytest.mark.parametrize("mode", [OUTSIDE_MEAN, OUTSIDE_BOTH, INSIDE, NONE])
def test_only_the_gradient_differs_between_inside_and_outside(mode):
    inputs = tf.constant(np.random.default_rng(0).normal(3, 2, (40, 3)), tf.float32)
    weights = tf.constant(np.random.default_rng(1).normal(0, 1, (40, 3)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = Normalized(mode)(inputs)
        loss = tf.reduce_sum(outputs * weights)
    gradient = tape.gradient(loss, inputs).numpy()
    centered = inputs - tf.reduce_mean(inputs, axis=0)
    deviation = np.sqrt(np.var(inputs.numpy(), axis=0) + bn_outside.EPSILON)
    scale = 1.0 if mode in (OUTSIDE_MEAN, NONE) else deviation
    expected = inputs if mode == NONE else centered / scale
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    if mode == INSIDE:  # a shift of all inputs changes nothing, and the gradient knows it
        np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-4)
    else:
        np.testing.assert_allclose(gradient, weights / scale, rtol=1e-5)
    assert keras.ops.shape(outputs) == (40, 3)
