# SPDX-License-Identifier: Apache-2.0
"""Equivalent faster models: the same probabilities from fewer layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import inception_tf
from inception_tf.optimize import fold_batch_norm

NETWORKS = {
    "inception_v1": {},
    "bn_inception": {"hidden_batch_norm": True},
    "inception_v2": {},
    "inception_v3": {"aux_logits": True},
    "inception_v4": {},
    "inception_resnet_v1": {},
    "inception_resnet_v2": {},
    "googlenet": {"batch_norm": True},
}


def trained(model):
    """`model` with statistics, shifts and scales as a training would leave them."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.2, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.3, 2, layer.moving_mean.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.moving_mean.shape))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, layer.moving_mean.shape))
    return model


def norms(model):
    return [
        layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]


def images(side):
    return np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3)).astype("float32")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_the_same_without_batch_normalization(name):
    keras.utils.set_random_seed(0)
    side = 96
    arguments = {"input_shape": (side, side, 3), "width_multiplier": 0.25, "classes": 7}
    model = trained(inception_tf.create_model(name, **arguments, **NETWORKS[name]))
    before = {v.path: np.array(v) for v in model.weights}
    folded = fold_batch_norm(model)

    # The one before the logits follows a pooling: there is no kernel to take it up.
    assert norms(folded) == [norm for norm in norms(model) if norm == "Hidden_bn"]
    ours, theirs = (
        keras.tree.map_structure(np.asarray, m(images(side), training=False))
        for m in (folded, model)
    )
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), ours, theirs
    )
    assert np.ptp(keras.tree.flatten(theirs)[0]) > 1e-3
    for v in model.weights:
        np.testing.assert_array_equal(before[v.path], v, err_msg=v.path)
    gone = set(norms(model)) - set(norms(folded))
    assert {layer.name for layer in folded.layers} == {layer.name for layer in model.layers} - gone


def test_scale_bias_and_dense_layers_are_taken_up():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=True, bias_initializer="normal")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.SeparableConv2D(5, 3, use_bias=False)(keras.layers.ReLU()(x))
    x = keras.layers.BatchNormalization(center=False)(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.BatchNormalization(epsilon=0.1)(x))
    rng = np.random.default_rng(0)
    for v in model.weights:
        v.assign(rng.uniform(0.5, 1.5, v.shape))
    folded = fold_batch_norm(model)
    assert not norms(folded)
    np.testing.assert_allclose(folded(images(6)), model(images(6)), rtol=1e-4)


def test_what_has_no_layer_of_its_own_to_fold_into_is_kept():
    image = keras.Input((4, 4, 3))
    shared = keras.layers.Conv2D(3, 1, name="shared")
    read_twice = keras.layers.Conv2D(3, 1, name="read_twice")(image)
    active = keras.layers.Conv2D(3, 1, activation="relu")(image)
    outputs = [
        keras.layers.BatchNormalization()(shared(image)),
        keras.layers.BatchNormalization()(shared(image * 2)),
        keras.layers.BatchNormalization()(read_twice) + read_twice,
        keras.layers.BatchNormalization()(active),
        keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(3, 1)(image)),
    ]
    model = trained(keras.Model(image, outputs))
    folded = fold_batch_norm(model)
    assert norms(folded) == norms(model)
    for ours, theirs in zip(folded(images(4)), model(images(4)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_convolution_that_is_an_output_itself_stays_as_it_is():
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(3, 1)(image)
    model = trained(keras.Model(image, [x, keras.layers.BatchNormalization()(x)]))
    folded = fold_batch_norm(model)
    assert norms(folded) == norms(model)
    np.testing.assert_array_equal(folded(images(4))[0], model(images(4))[0])
