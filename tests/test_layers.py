# SPDX-License-Identifier: Apache-2.0
"""The layers that Keras lacks and the paddings that it lacks, against TensorFlow's own and published formulas."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf

from inception_tf.arch import spec
from inception_tf.arch.spec import CEIL, Pool
from inception_tf.nn import builder
from inception_tf.nn.local_response_norm import (
    LocalResponseNormalization,
    local_response_normalization,
)


def pool(x, step):
    image = keras.Input(x.shape[1:])
    return keras.Model(image, builder.apply_step(image, step, "pool", builder.LayerConfig()))(
        x
    ).numpy()


@pytest.mark.parametrize("channels", [1, 3, 64])
def test_local_response_normalization_is_tensorflows(channels):
    x = 100 * ramps.uniform("activations", (2, 5, 4, channels))  # large enough to be damped
    # Caffe and Krizhevsky's GoogLeNet divide alpha by the five channels; TensorFlow does not.
    expected = tf.nn.local_response_normalization(
        x, depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75
    )
    np.testing.assert_allclose(local_response_normalization(x), expected, rtol=1e-6)
    assert np.abs(expected / x).min() < 0.95


def test_local_response_normalization_learns_as_tensorflows():
    x = tf.constant(100 * ramps.uniform("activations", (2, 5, 4, 16)))
    away = tf.constant(ramps.uniform("away", (2, 5, 4, 16)))
    ours, theirs = (
        lambda x: local_response_normalization(x),
        lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 1e-4 / 5, 0.75),
    )
    gradients = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        gradients.append(tape.gradient(y, x, output_gradients=away))
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "sums"), [(3, [3, 6, 9, 7]), (4, [3, 6, 10, 9])])
def test_local_response_normalization_sums_the_neighbours_within_reach(size, sums):
    x = np.sqrt(np.array([1, 2, 3, 4], np.float32)).reshape(1, 1, 1, 4)
    found = local_response_normalization(x, size=size, alpha=size, beta=1.0, bias=0.0)
    np.testing.assert_allclose(x / found, np.reshape(sums, x.shape), rtol=1e-6)


def test_local_response_normalization_sums_over_channels_and_not_over_places():
    x = np.ones((1, 3, 3, 8), np.float32)
    x[0, 1, 1] = 100
    found = local_response_normalization(x, alpha=1.0).numpy()
    np.testing.assert_allclose(found[0, 0, 0, 3], (1 + 1) ** -0.75, rtol=1e-6)
    np.testing.assert_allclose(found[0, 0, 0, 0], (1 + 3 / 5) ** -0.75, rtol=1e-6)


def test_the_layer_of_earlier_networks_keeps_its_settings_and_computes_the_same():
    settings = {"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}
    layer = LocalResponseNormalization(**settings)
    assert LocalResponseNormalization.from_config(layer.get_config()).settings == settings
    x = 10 * ramps.uniform("activations", (2, 3, 3, 8))
    np.testing.assert_allclose(layer(x), local_response_normalization(x, **settings), rtol=1e-6)


@pytest.mark.parametrize("side", range(3, 20))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (3, 1), (3, 3)])
def test_ceil_mode_has_caffes_output_size(side, kernel, stride):
    # caffe/src/caffe/layers/pooling_layer.cpp: ceil((side + 2 * pad - kernel) / stride) + 1
    expected = math.ceil((side - kernel) / stride) + 1
    assert spec.output_length(side, kernel, stride, CEIL) == expected


@pytest.mark.parametrize("side", [6, 7])
def test_ceil_mode_pools_what_is_left_at_the_edges(side):
    x = 1 + ramps.uniform("grid", (1, side, side, 2))  # never negative, as after an activation
    starts = range(0, math.ceil((side - 3) / 2) * 2 + 1, 2)
    expected = [[x[0, r : r + 3, c : c + 3].max(axis=(0, 1)) for c in starts] for r in starts]
    np.testing.assert_array_equal(pool(x, Pool("max", 3, 2, CEIL))[0], expected)


def test_average_over_padding_differs_from_tensorflows_at_the_border_only():
    x = 1 + ramps.uniform("grid", (1, 5, 5, 2))
    counted, left_out = (pool(x, Pool("avg", padding=padding)) for padding in (1, spec.SAME))
    ratio = np.full((5, 5), 9 / 9)
    ratio[[0, -1], :] = ratio[:, [0, -1]] = 6 / 9
    ratio[[0, 0, -1, -1], [0, -1, 0, -1]] = 4 / 9
    np.testing.assert_allclose(counted[0], left_out[0] * ratio[..., None], rtol=1e-5)
