# SPDX-License-Identifier: Apache-2.0
"""Variables that the host initializes for another device of JAX, here a second one of the processor."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

PROGRAM = """
from inception_tf.host.process_state import collect_garbage_rarely; collect_garbage_rarely()
import jax, keras, numpy
from inception_tf.nn.placement import initialized_on_host

seen = []

@initialized_on_host
def build(units):
    kernel = keras.initializers.GlorotUniform(seed=3)  # keras.utils.set_random_seed imports TensorFlow
    dense, dropout = keras.layers.Dense(units, kernel_initializer=kernel), keras.layers.Dropout(0.5, seed=3)
    model = keras.Sequential([keras.Input((4,)), dense, dropout])
    seen.append({device for v in model.variables for device in v.value.devices()})
    return model

def devices(model):
    return {device for v in model.variables for device in v.value.devices()}

host, card = jax.devices()
jax.config.update("jax_default_device", card)
moved = build(3)
assert seen == [{host}], seen
assert devices(moved) == {card}, devices(moved)
assert moved(numpy.ones((1, 4))).devices() == {card}
with jax.default_device(host):
    plain = build(3)
assert seen[1] == devices(plain) == {host}
assert all((numpy.asarray(a) == numpy.asarray(b)).all() for a, b in zip(moved.variables, plain.variables))
with keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]).scope():
    assert devices(build(3)) == {host, card}
"""


def test_a_network_is_initialized_on_the_host_and_moved_to_the_device():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    variables = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, **variables}, check=True)
