# SPDX-License-Identifier: Apache-2.0
"""The simulation of asynchronous SGD: one worker is plain SGD, a stale gradient is that of the weights that were read."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from inception_tf.experiments.loop import cross_entropy
from inception_tf.experiments.studies.async_sgd import MOMENTUM, Simulation, order_of_ends

RATE = 0.1
GENERATOR = np.random.default_rng(0)
IMAGES = tf.constant(GENERATOR.normal(size=(4, 6, 2, 2, 3)), tf.float32)
CLASSES = tf.constant(GENERATOR.integers(0, 5, (4, 6)), tf.int32)


def linear():
    keras.utils.set_random_seed(0)
    images = keras.Input((2, 2, 3))
    return keras.Model(images, keras.layers.Dense(5)(keras.layers.Flatten()(images)))


def gradients(model, weights, number):
    """Of a batch, at these weights."""
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        loss = cross_entropy(model(IMAGES[number]), CLASSES[number])
    found = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return [one.numpy() for one in found]


def weights_of(model):
    return [np.array(variable) for variable in model.trainable_variables]


def test_one_worker_is_gradient_descent_with_momentum():
    model, expected = linear(), linear()
    simulation = Simulation(model, 1, RATE)
    optimizer = keras.optimizers.SGD(RATE, MOMENTUM)
    for number in range(4):
        simulation.step(tf.constant(0), IMAGES[number], CLASSES[number])
        found = gradients(expected, weights_of(expected), number)
        optimizer.apply([tf.constant(one) for one in found], expected.trainable_variables)
    for ours, theirs in zip(weights_of(model), weights_of(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_gradient_is_that_of_the_weights_that_its_worker_read():
    model, other = linear(), linear()
    simulation = Simulation(model, 3, RATE)
    weights = weights_of(model)
    read = [weights] * 3
    velocity = [np.zeros_like(one) for one in weights]
    for number, worker in enumerate((2, 0, 0, 2)):
        simulation.step(tf.constant(worker), IMAGES[number], CLASSES[number])
        stale = gradients(other, read[worker], number)
        velocity = [MOMENTUM * v - RATE * g for v, g in zip(velocity, stale, strict=True)]
        weights = [w + v for w, v in zip(weights, velocity, strict=True)]
        read[worker] = weights
        for ours, theirs in zip(weights_of(model), weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_joint_step_is_one_step_on_all_images():
    model, expected = linear(), linear()
    Simulation(model, 1, RATE).joint_step(IMAGES, CLASSES)
    with tf.GradientTape() as tape:
        outputs = expected(tf.reshape(IMAGES, (24, 2, 2, 3)))
        loss = cross_entropy(outputs, tf.reshape(CLASSES, (24,)))
    found = tape.gradient(loss, [variable.value for variable in expected.trainable_variables])
    for ours, old, gradient in zip(weights_of(model), weights_of(expected), found, strict=True):
        np.testing.assert_allclose(ours, old - RATE * gradient, rtol=1e-5, atol=1e-6)


def test_every_worker_ends_equally_often_so_that_a_gradient_is_49_updates_old_on_average():
    ends = order_of_ends(50_000, 50, 0)
    assert set(ends) == set(range(50))
    last: dict[int, int] = {}
    ages = []
    for step, worker in enumerate(ends):
        ages.append(step - last.get(int(worker), 0) - 1)
        last[int(worker)] = step
    assert 48 < np.mean(ages[1000:]) < 50
