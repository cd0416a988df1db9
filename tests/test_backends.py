# SPDX-License-Identifier: Apache-2.0
"""The networks on Keras' other backends, in one process of each."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from test_trainer_backends import FLAGS
from test_without_tensorflow import environment

# One residual network, one with local response normalization and ceil pools, one separable stem.
PROGRAM = """
import contextlib, io, sys
import keras, numpy, ramps, inception_tf
from inception_tf import cli
from inception_tf.benchmark import peak
from short_networks import least, shorten_all
shorten_all()
peak.SIDE, peak.IMAGES = 64, 1
images = numpy.linspace(-1, 1, 2 * 80 * 80 * 3, dtype="float32").reshape(2, 80, 80, 3)
for name in ("googlenet", "inception_v2", "inception_resnet_v1"):
    with ramps.undrawn():  # JAX compiles a program for each shape that it draws
        model = inception_tf.create_model(name, classes=4, input_shape=(80, 80, 3), width_multiplier=0.1)
    ramps.fill(model)
    chances = model.predict_on_batch(images)
    assert chances.shape == (2, 4), chances.shape
    assert numpy.allclose(chances.sum(1), 1, atol=1e-5)
    assert numpy.ptp(chances) > 0.01, chances
shorten_all(["inception_v1"], least)
for kind in ("forward", "forward-backward"):
    words = f"benchmark {kind} --backend keras --model inception_v1 --size 32 --batch-size 2 --steps 1"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with ramps.undrawn():
            assert cli.main([*words.split(), "--precision", "bfloat16"]) == 0
    assert f"on {sys.argv[1]} " in out.getvalue().splitlines()[0], out.getvalue()
    assert " across 1 steps, " in out.getvalue(), out.getvalue()
assert keras.backend.backend() == sys.argv[1]
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_networks_run_and_are_timed_on_another_backend_without_tensorflow(root, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    # Keras itself imports TensorFlow, where it finds it, as soon as a layer is serialized.
    hidden = root / "tests" / "without_tensorflow"
    variables = environment(
        root, hidden, KERAS_BACKEND=backend, XLA_FLAGS=FLAGS, JAX_DISABLE_MOST_OPTIMIZATIONS="1"
    )
    subprocess.run([sys.executable, "-c", PROGRAM, backend], env=variables, check=True)
