# SPDX-License-Identifier: Apache-2.0
"""What is timed is computed: every layer's gradient reaches what a step returns."""

from __future__ import annotations

import os
import subprocess

import keras
import numpy as np
import pytest
from poison import lost, poisonable

from inception_tf import create_model
from inception_tf.benchmark import passes

OTHER_PYTHON = "INCEPTION_TF_PYTHON_WITHOUT_TENSORFLOW"
pytestmark = pytest.mark.usefixtures("always_short")
IMAGES = np.linspace(-1, 1, 2 * 32 * 32 * 3, dtype="float32").reshape(2, 32, 32, 3)


@pytest.fixture(scope="module", params=["float32", "mixed_bfloat16", "mixed_float16"])
def network(request):
    """Every kind of convolution at a few channels, and the classifier."""
    return poisonable(
        create_model(
            "inception_v1",
            input_shape=(32, 32, 3),
            classes=8,
            width_multiplier=0.05,
            dtype=request.param,
        )
    )


@pytest.mark.parametrize(
    "how",
    ["graph", *(pytest.param(how, marks=pytest.mark.slow) for how in ("xla", "none"))],
)
def test_every_gradient_reaches_what_the_step_returns(network, how):
    model, layers = network
    step = passes.gradients(model, how)
    images = keras.ops.convert_to_tensor(IMAGES)
    kernels = [v for v in model.trainable_weights if v.path.endswith("/kernel")]
    assert len(layers) == len(kernels) > 3
    assert lost(lambda: step(images), layers) == []


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_gradient_reaches_what_the_step_returns_on_other_backends(backend):
    """By an interpreter that has them; "none" on jax is minutes of single operations."""
    python = os.environ.get(OTHER_PYTHON)
    if not python:
        pytest.skip(f"{OTHER_PYTHON} names no interpreter with jax and torch")
    forms = "graph or xla" if backend == "jax" else "none"
    subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            __file__,
            "-m",
            "",
            "-k",
            f"step_returns and ({forms}) and not other",
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's optimizer")
def test_gradients_behind_a_control_edge_are_found_missing(network):
    """What the clock once took for a backward pass: TensorFlow's optimizer left it out."""
    import tensorflow as tf

    model, layers = network

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        with tf.control_dependencies(gradients):
            return tf.identity(loss)

    assert lost(lambda: step(tf.constant(IMAGES)).numpy(), layers) == [la.name for la in layers]
