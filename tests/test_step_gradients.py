# SPDX-License-Identifier: Apache-2.0
"""The graph of a training step: freed with its model, where TensorFlow would keep it until the process ends."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import tensorflow as tf
from small_runs import few_digits, only

from inception_tf.training.recipes import read_recipe
from inception_tf.training.step_gradients import forget_step_gradients
from inception_tf.training.train import train


def fit_a_small_model() -> weakref.ref:
    """The graph of its training step."""
    graphs = []

    class Dense(keras.layers.Dense):
        def call(self, x, training=None):
            if training:
                graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
            return super().call(x)

    image = keras.Input((4,))
    model = keras.Model(image, Dense(2)(image))
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    return graphs[-1]


def test_the_graph_of_a_step_is_freed():
    with forget_step_gradients():
        forgotten = fit_a_small_model()
    kept = fit_a_small_model()
    gc.collect()
    assert forgotten() is None
    assert kept().name == "one_step_on_data"  # by TensorFlow


def test_a_training_leaves_no_gradients(tmp_path):
    from tensorflow.python.framework.ops import gradient_registry

    config = read_recipe("digits").override(
        ["model.width_multiplier=0.05", "training.epochs=1", "data.batch_size=40"]
    )
    before = set(gradient_registry.list())
    with only(config.model.name, "Conv2d_1a_7x7"), few_digits(80, 40):
        train(config, tmp_path / "run")
    assert set(gradient_registry.list()) == before


def test_a_step_that_was_traced_runs_and_one_traced_later_is_differentiated():
    @tf.custom_gradient
    def three_times(x):
        return 3 * x, lambda gradient: 3 * gradient

    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = three_times(x)
        return tape.gradient(y, x)

    with forget_step_gradients():
        assert slope(tf.constant(1.0)) == 3
    assert slope(tf.constant(2.0)) == 3
    assert (slope(tf.constant([1.0, 2.0])) == 3).numpy().all()  # another shape: traced now


def test_an_error_passes_and_what_was_registered_before_stays():
    from tensorflow.python.framework.ops import gradient_registry

    @tf.custom_gradient
    def same(x):
        return tf.identity(x), lambda gradient: gradient

    spec = tf.TensorSpec(())
    tf.function(same).get_concrete_function(spec)
    before = set(gradient_registry.list())
    try:
        with forget_step_gradients():
            tf.function(same).get_concrete_function(spec)
            assert set(gradient_registry.list()) > before
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert set(gradient_registry.list()) == before
