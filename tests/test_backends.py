# SPDX-License-Identifier: Apache-2.0
"""The networks on Keras' other backends, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

# One residual network, one with local response normalization and ceil pools, one separable stem.
PROGRAM = """
import keras, numpy, sys, inception_tf
images = numpy.linspace(-1, 1, 2 * 80 * 80 * 3, dtype="float32").reshape(2, 80, 80, 3)
for name in ("googlenet", "inception_v2", "inception_resnet_v1"):
    model = inception_tf.create_model(name, classes=4, input_shape=(80, 80, 3), width_multiplier=0.1)
    chances = keras.ops.convert_to_numpy(model(images))
    assert chances.shape == (2, 4), chances.shape
    assert numpy.allclose(chances.sum(1), 1, atol=1e-5)
assert keras.backend.backend() == sys.argv[1]
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_networks_run_on_another_backend_without_tensorflow(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    subprocess.run(
        [sys.executable, "-c", PROGRAM, backend],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )


@pytest.mark.parametrize("kind", ["forward", "forward-backward"])
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_networks_are_timed_on_another_backend(backend, kind):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    words = (
        f"benchmark {kind} --backend keras --model inception_v1 --size 32 --batch-size 2 --steps 1"
    )
    child = subprocess.run(
        [sys.executable, "-m", "inception_tf", *words.split(), "--precision", "bfloat16"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"on {backend} " in child.stdout.splitlines()[0]
    assert " across 1 steps, " in child.stdout
