# SPDX-License-Identifier: Apache-2.0
"""Graphs with constant weights, held against the model that they were made from."""

from __future__ import annotations

import numpy as np
import pytest

from inception_tf import create_model
from inception_tf.inference.constant_graph import (
    CONSTANT_BATCH_LIMIT,
    make_constant_graph,
    make_graph,
)
from inception_tf.inference.optimize import optimize_for_inference

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture(scope="module")
def network():
    return create_model("inception_v1", input_shape=(48, 48, 3), classes=7, width_multiplier=0.25)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (3, 48, 48, 3)).astype("float32")


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.01)])
def test_the_constant_graph_answers_as_the_model(network, images, precision, tolerance):
    model = optimize_for_inference(network, precision)
    found = make_constant_graph(model, len(images))(images)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, model(images, training=False), atol=tolerance)


def test_later_changes_of_the_model_do_not_reach_it(images):
    model = create_model("inception_v1", input_shape=(48, 48, 3), classes=7, width_multiplier=0.25)
    call = make_constant_graph(model, len(images))
    before = call(images)
    model.set_weights([weight * 3 + 0.1 for weight in model.get_weights()])
    np.testing.assert_array_equal(call(images), before)
    assert np.abs(model(images, training=False) - before).max() > 1e-3


@pytest.mark.parametrize("batch", [CONSTANT_BATCH_LIMIT, CONSTANT_BATCH_LIMIT + 1])
def test_small_and_large_batches_are_one_graph_each(network, images, batch):
    batch_of = np.resize(images, (batch, 48, 48, 3))
    found = np.asarray(make_graph(network, batch)(batch_of))
    np.testing.assert_allclose(found, network(batch_of, training=False), atol=1e-5)


def test_nothing_is_printed(network, images, capfd):
    make_constant_graph(network, len(images))(images)
    assert capfd.readouterr() == ("", "")
