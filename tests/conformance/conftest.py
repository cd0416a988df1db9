# SPDX-License-Identifier: Apache-2.0
"""Every test of this folder that takes `network` runs once for each network of `list_models()`.

By default what is marked `short` gets the networks with one module of each kind, and what depends on the kinds of layers
alone, marked `kinds`, only the short ones of `KINDS`.
"""

from __future__ import annotations

import functools

import pytest
import ramps
from expected import EXPECTED
from short_networks import shorten

import inception_tf
from inception_tf.models import NETWORKS
from inception_tf.nn.network import build_model

CLASSES = 5
# Together they have every kind of layer, which test_endpoints.py holds.
KINDS = ("googlenet", "inception_v2", "inception_resnet_v1")


def pytest_generate_tests(metafunc):
    if "network" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        fast = KINDS if marked("kinds") else NETWORKS
        is_default_run = metafunc.config.option.markexpr == "not slow"
        cut = is_default_run and (marked("kinds") or marked("short"))
        networks = [
            pytest.param(
                shorten(network) if cut else network,
                id=name,
                marks=() if name in fast else pytest.mark.slow,
            )
            for name, network in NETWORKS.items()
        ]
        # The scope makes pytest finish one network before the next, so that few models are alive.
        metafunc.parametrize("network", networks, scope="session")


@pytest.fixture
def row(network):
    return EXPECTED[network.name]


@functools.lru_cache(maxsize=1)
@ramps.undrawn()
def _full(network):
    return inception_tf.create_model(network.name, aux_logits=bool(network.auxiliaries))


@pytest.fixture
def full(network):
    """The published network with all its heads and 1,000 classes, of zeros; shared, not to be changed."""
    return _full(network)


@functools.lru_cache(maxsize=8)
@ramps.undrawn()
def _small(network, **arguments):
    model = build_model(network, **arguments)
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


@pytest.fixture(scope="session")
def kinds():
    """The classes of layers in the short networks of `KINDS`."""
    models = (build_model(shorten(NETWORKS[name]), width_multiplier=0.1) for name in KINDS)
    return {type(layer) for model in models for layer in model.layers}


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
