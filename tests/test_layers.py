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
from inception_tf.models import NETWORKS, variant
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


def maximum(x, step):
    """By its definition, without padding: (H, W, C) to (h, w, C) over windows that may pass the edges."""
    (rows, columns), stride = step.window, step.stride
    h, w = (
        spec.output_length(side, window, stride, step.padding)
        for side, window in zip(x.shape, step.window, strict=False)
    )
    # TensorFlow's `same` has the smaller half of what is missing before the first place.
    before = [
        max((out - 1) * stride + window - side, 0) // 2 if step.padding == spec.SAME else 0
        for out, window, side in zip((h, w), step.window, x.shape, strict=False)
    ]
    return [
        [
            x[max(r, 0) : r + rows, max(c, 0) : c + columns].max(axis=(0, 1))
            for c in range(-before[1], w * stride - before[1], stride)
        ]
        for r in range(-before[0], h * stride - before[0], stride)
    ]


MAX_POOLS = sorted(
    {
        layer.step
        for network in (*NETWORKS.values(), variant("inception_v1", torch_padding=True))
        for endpoint, step in network.backbone
        for layer in spec.iter_layers(endpoint, step)
        if isinstance(layer.step, Pool) and layer.step.kind == "max"
    },
    key=str,
)


@pytest.mark.parametrize("step", MAX_POOLS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_maximum_never_takes_padding(step, dtype):
    for height, width in ((8, 8), (8, 9), (9, 8), (9, 9)):
        x = 6e4 * (ramps.uniform("below zero", (1, height, width, 2)) - 1.05) / 2.05
        x = np.asarray(keras.ops.cast(x, dtype), "float32")
        assert x.max() < 0
        for shape in ((height, width), (None, None), (height, None)):
            image = keras.Input((*shape, 2))
            layers = builder.LayerConfig(dtype=dtype)
            model = keras.Model(image, builder.apply_step(image, step, "pool", layers))
            found = np.asarray(keras.ops.cast(model(x), "float32"))[0]
            np.testing.assert_array_equal(found, maximum(x[0], step))


@pytest.mark.parametrize(
    ("kind", "stride", "padding"), [("avg", 2, CEIL), ("max", 1, CEIL), ("max", 2, 1)]
)
def test_padding_that_no_pooling_has_is_refused(kind, stride, padding):
    with pytest.raises(ValueError, match="pooling"):
        Pool(kind, 3, stride, padding)


def test_average_over_padding_differs_from_tensorflows_at_the_border_only():
    x = 1 + ramps.uniform("grid", (1, 5, 5, 2))
    counted, left_out = (pool(x, Pool("avg", padding=padding)) for padding in (1, spec.SAME))
    ratio = np.full((5, 5), 9 / 9)
    ratio[[0, -1], :] = ratio[:, [0, -1]] = 6 / 9
    ratio[[0, 0, -1, -1], [0, -1, 0, -1]] = 4 / 9
    np.testing.assert_allclose(counted[0], left_out[0] * ratio[..., None], rtol=1e-5)
