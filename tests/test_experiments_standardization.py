# SPDX-License-Identifier: Apache-2.0
"""Standardization after the nonlinearity beside batch normalization before it, and the measure of sparsity."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inception_tf.experiments.studies.standardization import AFTER, BEFORE, kurtosis, make_network


def test_kurtosis_is_0_of_a_gaussian_and_large_of_a_sparse_distribution():
    generator = np.random.default_rng(0)
    assert kurtosis(generator.normal(5, 2, (200_000, 2))) == pytest.approx(0, abs=0.05)
    assert kurtosis(generator.laplace(size=(200_000, 2))) == pytest.approx(3, abs=0.3)
    still = np.zeros((200_000, 1))
    assert kurtosis(np.hstack([generator.uniform(size=(200_000, 1)), still])) == pytest.approx(
        -1.2, abs=0.02
    )


@pytest.mark.parametrize("place", [BEFORE, AFTER])
def test_what_is_normalized_has_mean_0_and_variance_1(place):
    model = make_network(place, "sigmoid", 10, seed=0)
    images = np.random.default_rng(0).uniform(-1, 1, (300, 8, 8, 3)).astype(np.float32)
    _, inner, outer = (np.array(one) for one in model(images, training=True))
    normalized, other = (inner, outer) if place == BEFORE else (outer, inner)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-4)
    assert 0.8 < normalized.var(axis=0).mean() <= 1  # epsilon is 0.001
    assert abs(other.var(axis=0).mean() - 1) > 0.1
    scales = [x.scale for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert scales == [place == BEFORE] * 3
