# SPDX-License-Identifier: Apache-2.0
"""Every test of this folder that takes `network` runs once for each network of `list_models()`."""

from __future__ import annotations

import functools

import pytest
import ramps
from expected import EXPECTED

import inception_tf
from inception_tf.models import NETWORKS

CLASSES = 5


def pytest_generate_tests(metafunc):
    if "network" in metafunc.fixturenames:
        # The scope makes pytest finish one network before the next, so that few models are alive.
        metafunc.parametrize("network", NETWORKS.values(), ids=NETWORKS, scope="session")


@pytest.fixture
def row(network):
    return EXPECTED[network.name]


@functools.lru_cache(maxsize=1)
def _full(network):
    return inception_tf.create_model(network.name, aux_logits=bool(network.auxiliaries))


@pytest.fixture
def full(network):
    """The published network with all its heads and 1,000 classes; shared, not to be changed."""
    return _full(network)


@functools.lru_cache(maxsize=8)
def _small(network, **arguments):
    model = inception_tf.create_model(network.name, **arguments)
    ramps.fill(model)
    return model


@pytest.fixture
def small(network):
    """`small(**arguments)`: a quarter of the width, the least size, all heads, weights by rule; shared."""

    def build(**arguments):
        side = network.min_size
        defaults = {
            "input_shape": (side, side, 3),
            "classes": CLASSES,
            "width_multiplier": 0.25,
            "aux_logits": bool(network.auxiliaries) and arguments.get("include_top", True),
        }
        return _small(network, **defaults | arguments)

    return build


@pytest.fixture
def images(network):
    return ramps.images(2, network.min_size, network.min_size, 3)


@pytest.fixture
def outputs():
    """`outputs(model, images)`: a dict of arrays, whether the model gives a dict or one tensor."""

    def run(model, images):
        found = model(images, training=False)  # faster than to trace a graph for one call
        found = found if isinstance(found, dict) else {"predictions": found}
        return {key: value.numpy() for key, value in found.items()}

    return run
