# SPDX-License-Identifier: Apache-2.0
"""Parameters: the table, the built model and the published counts are one."""

from __future__ import annotations

import pytest
from expected import EXPECTED

import inception_tf
from inception_tf.arch import counting, spec
from inception_tf.nn.network import build_model

CASES = {  # keyword arguments of `facts` → the field of a row
    "1000 classes": ({}, "total_1000", "params"),
    "1001 classes": ({"classes": 1001}, "total_1001", "params"),
    "trainable": ({}, "trainable_1000", "trainable"),
    "no top": ({"classes": None}, "base", "params"),
}


def test_every_network_has_a_row():
    assert set(EXPECTED) == set(inception_tf.list_models())


@pytest.mark.parametrize("case", CASES)
def test_table_has_the_published_count(network, row, case):
    arguments, field, count = CASES[case]
    assert counting.total(counting.layer_costs(network, **arguments), count) == getattr(row, field)


def test_auxiliary_classifiers_of_the_table_have_the_published_count(network, row):
    counts = [
        counting.total(counting.layer_costs(network, aux_logits=aux_logits), "params")
        for aux_logits in (True, False)
    ]
    assert counts[0] - counts[1] == row.auxiliary


def test_model_has_the_published_count(full, row):
    assert full.count_params() == row.total_1000 + row.auxiliary


def test_number_of_convolutions_is_the_published_one(network, row):
    rows = counting.layer_costs(network, classes=None)
    kinds = spec.Conv | spec.Separable
    assert sum(isinstance(r.layer.step, kinds) for r in rows) == row.convolutions


def test_multiply_adds_are_near_the_published_figure(network, row):
    least, most = row.multiply_adds
    assert least <= counting.total(counting.layer_costs(network), "multiply_adds") <= most


def test_size_and_dropout_are_the_published_ones(full, row):
    assert full.input_shape == (None, row.size, row.size, 3)
    assert full.get_layer("PreLogits").rate == pytest.approx(row.dropout)


def test_table_and_model_agree_step_by_step(network, full):
    assert_agree(full, counting.layer_costs(network, aux_logits=bool(network.auxiliaries)))


@pytest.mark.short
def test_table_and_model_agree_at_another_size_and_width(network):
    size = network.min_size + 56, network.min_size + 22
    arguments = {"classes": 5, "width_multiplier": 0.3, "aux_logits": bool(network.auxiliaries)}
    model = build_model(network, input_shape=(*size, 3), **arguments)
    assert_agree(model, counting.layer_costs(network, size, **arguments))


@pytest.mark.short
def test_table_and_model_agree_at_the_least_size(network, small):
    least = network.min_size
    arguments = {"classes": 5, "width_multiplier": 0.25, "aux_logits": bool(network.auxiliaries)}
    assert_agree(small(), counting.layer_costs(network, (least, least), **arguments))


def assert_agree(model, rows):
    layers = {layer.name: layer for layer in model.layers}
    assert {r.layer.name: (r.output, r.params, r.trainable, r.multiply_adds) for r in rows} == {
        r.layer.name: cost(layers, r.layer.name) for r in rows
    }
    assert counting.total(rows, "params") == model.count_params()


def cost(layers, name):
    """Output, parameters, trainable ones and multiply-adds of one step, from the layers themselves."""
    own = [layers[end] for end in (f"{name}_conv", f"{name}_bn") if end in layers]
    own = own or [layers[name if name in layers else f"{name}_pool"]]
    shape = own[0].output.shape[1:]
    height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
    numbers = [int(w.shape.num_elements()) for layer in own for w in layer.trainable_weights]
    kernels = [w for layer in own for w in layer.weights if w.name.endswith("kernel")]
    return (
        (height, width, channels),
        sum(layer.count_params() for layer in own),
        sum(numbers),
        sum(int(w.shape.num_elements()) * height * width for w in kernels),
    )
