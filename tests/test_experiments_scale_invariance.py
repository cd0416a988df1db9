# SPDX-License-Identifier: Apache-2.0
"""Section 3.3's equations on a layer, and that a layer without normalization breaks them."""

from __future__ import annotations

import keras
import pytest

from inception_tf.experiments.arrays import load_arrays
from inception_tf.experiments.studies.scale_invariance import FACTORS, scaled_layer


@pytest.fixture(scope="module")
def data():
    return load_arrays("digits", 8)


@pytest.mark.parametrize("factor", FACTORS)
def test_outputs_and_input_gradients_keep_and_weight_gradients_are_divided(data, factor):
    found = scaled_layer(data, factor)
    assert set(found) == {"output", "input_gradient", "weight_gradient"}
    assert max(found.values()) < 1e-5


def test_the_measure_notices_a_layer_that_is_not_invariant(data, monkeypatch):
    def plain(epsilon, dtype):
        return lambda x, training: x

    monkeypatch.setattr(keras.layers, "BatchNormalization", plain)
    found = scaled_layer(data, 2.0)
    assert found["output"] == pytest.approx(1)  # twice as large
    assert found["input_gradient"] == pytest.approx(1)
    assert found["weight_gradient"] == pytest.approx(1)  # the same, so twice the half
