# SPDX-License-Identifier: Apache-2.0
"""The default run's short ways of building layers give what Keras' own give."""

from __future__ import annotations

import functools
import inspect

import cheap_layers
import keras
import pytest
import ramps


def without_wrapping(function):
    return getattr(function, "__wrapped__", function)


KERAS_OWN = without_wrapping(keras.Layer.__setattr__)
SHORT = cheap_layers.set_plain_attributes_directly(KERAS_OWN)


class Block(keras.layers.Layer):
    """Something of each kind that a layer can hold."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.units, self.title, self.ready, self.nothing, self.rate = 3, "a", True, None, 0.5
        self.function, self.method, self.several = len, self.count_params, (1, None, "b")
        self.inner = [keras.layers.Conv2D(2, 3, name="one"), keras.layers.BatchNormalization()]
        self.named = {"head": keras.layers.Dense(2)}
        self.noise, self.metric = keras.layers.Dropout(0.5), keras.metrics.Mean()
        self.noise = None  # what was a layer is none any more

    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")
        self.count = self.add_weight(shape=(), trainable=False, name="count")
        self.built_for, self.ready = shape[-1], False

    def call(self, x, training=False):
        for layer in self.inner:
            x = layer(x, training=training)
        return self.named["head"](x) * self.scale


def found(monkeypatch, set_attribute):
    """What there is to tell of a block, after it was called, frozen and thawed."""
    monkeypatch.setattr(keras.Layer, "__setattr__", set_attribute)
    keras.backend.clear_session(free_memory=False)  # the same names each time
    block = Block(name="block")
    block(ramps.images(2, 8, 8, 3), training=True)
    block.inner[1].trainable = False
    block.trainable = True  # it is already, so Keras changes nothing below
    stores = {name: len(list_) for name, (_, list_) in block._tracker.config.items()}
    plain = {name: value for name, value in vars(block).items() if type(value) in (int, str, bool)}
    groups = ("variables", "trainable_variables", "non_trainable_variables", "metrics_variables")
    paths = {name: [v.path for v in getattr(block, name)] for name in groups}
    kinds = {name: type(value).__name__ for name, value in vars(block).items()}
    children = sorted(block._trackable_children())
    block.trainable = False
    return stores, plain, paths, kinds, children, [v.path for v in block.trainable_variables]


def test_a_layer_holds_and_tracks_what_it_does_in_keras(monkeypatch):
    expected = found(monkeypatch, KERAS_OWN)
    assert (
        expected[0]["layers"] == 4
    )  # two in a list, one in a dictionary, and the one that was replaced
    assert found(monkeypatch, SHORT) == expected


def test_setters_of_properties_are_called_and_their_errors_are_raised(monkeypatch):
    monkeypatch.setattr(keras.Layer, "__setattr__", SHORT)
    block = Block()
    block.trainable = False
    assert not any(layer.trainable for layer in block.inner)
    with pytest.raises(AttributeError):
        block.path = "a"


def test_signatures_are_those_of_inspect():
    original = without_wrapping(inspect.signature)
    kept = cheap_layers.kept_by_function(original)

    @functools.wraps(Block.call)
    def wrapped(*args):
        return args

    block = Block()
    for called in (Block.call, block.call, Block, wrapped, functools.partial(len, ()), block.build):
        for _ in range(2):
            assert kept(called) == original(called)
