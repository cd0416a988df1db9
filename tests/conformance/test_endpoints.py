# SPDX-License-Identifier: Apache-2.0
"""Endpoints: slim's names, in the order of the network, with the documents' shapes."""

from __future__ import annotations

import keras
import pytest

import inception_tf

HEAD = ["global_pool", "PreLogits", "Logits", "Predictions"]


def grids(network, model):
    ends = inception_tf.endpoints(model)
    return {name: tuple(ends[name].shape[1:]) for name, _ in network.backbone}


def test_endpoints_have_the_documents_shapes(network, full, row):
    assert grids(network, full) == row.endpoints


def test_endpoints_stand_in_the_order_of_the_network(full, row):
    names = [name for name in inception_tf.endpoints(full) if not name.startswith("Aux")]
    assert names == [*row.endpoints, *HEAD]


def test_auxiliary_logits_are_an_endpoint(network, full):
    ends = inception_tf.endpoints(full)
    assert {tuple(ends[aux.name].shape) for aux in network.auxiliaries} <= {(None, 1000)}


def test_three_networks_have_every_kind_of_layer(full, kinds):
    assert {type(layer) for layer in full.layers} <= kinds


@pytest.mark.kinds
def test_an_endpoint_makes_a_model(network, small, images):
    model = small()
    name = network.backbone[-2][0]
    end = inception_tf.endpoints(model)[name]
    assert keras.Model(model.input, end)(images).shape[1:] == end.shape[1:]
