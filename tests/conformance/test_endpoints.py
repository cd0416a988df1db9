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


def test_endpoints_stand_in_the_order_of_the_network(network, full, row):
    further = {alias for alias, _ in network.aliases}
    names = [name for name in inception_tf.endpoints(full) if not name.startswith("Aux")]
    assert [name for name in names if name not in further] == [*row.endpoints, *HEAD]


# tf_slim/nets, tensorflow/models research/slim/nets, and facenet's src/models/inception_resnet_v1.py.
FURTHER = {
    "inception_v1": {"AvgPool_0a_7x7": "global_pool"},
    "inception_v2": {"AvgPool_1a": "global_pool"},
    "inception_v3": {"AvgPool_1a": "global_pool"},
    "inception_v4": {"PreLogitsFlatten": "PreLogits"},
    "inception_resnet_v1": {
        "Mixed_5a": "Block35_5",
        "Mixed_6b": "Block17_10",
        "Mixed_8a": "Block8_5",
        "Mixed_8b": "Block8_6",
        "PrePool": "Block8_6",
        "PreLogitsFlatten": "PreLogits",
    },
    "inception_resnet_v2": {"PreLogitsFlatten": "PreLogits"},
    "alexnet": {"fc8": "Logits"},
    "vgg16": {"fc8": "Logits"},
}


def test_endpoints_have_the_names_of_the_published_code_too(network, full):
    ends = inception_tf.endpoints(full)
    for name, ours in FURTHER.get(network.name, {}).items():
        assert ends[name] is ends[ours], name


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
