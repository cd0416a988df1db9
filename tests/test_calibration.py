# SPDX-License-Identifier: Apache-2.0
"""Calibration by hand, by simulation, and against scipy's minimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from inception_tf.errors import UserError
from inception_tf.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    with_temperature,
)
from inception_tf.evaluation.metrics import Predictions


def simulated(sharpness, images=4000, classes=5):
    """Predictions whose logits are `sharpness` times those that the true classes are drawn from."""
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(images, classes)) * 1.5
    true = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return Predictions(softmax(sharpness * logits, axis=1).astype(np.float32), true)


def test_bins_and_error_are_those_counted_by_hand():
    found = Predictions(
        np.array([[0.95, 0.05], [0.95, 0.05], [0.4, 0.6], [0.5, 0.5], [0.0, 1.0]], np.float32),
        np.array([0, 1, 1, 0, 1]),
    )
    half, six, last = reliability_bins(found, bins=10)
    assert (half.low, half.high, half.images, half.accuracy) == (0.4, 0.5, 1, 1.0)
    assert (six.images, six.accuracy, six.confidence) == (1, 1.0, pytest.approx(0.6))
    assert (last.images, last.accuracy) == (3, pytest.approx(2 / 3))
    expected = (0.5 + 0.4 + 3 * abs(2.9 / 3 - 2 / 3)) / 5
    assert expected_calibration_error(found, bins=10) == pytest.approx(expected)


def test_probabilities_that_the_classes_are_drawn_from_are_calibrated():
    assert expected_calibration_error(simulated(1.0)) < 0.03
    assert expected_calibration_error(simulated(4.0)) > 0.15


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_is_scipys_minimum_and_undoes_the_sharpness(sharpness):
    found = simulated(sharpness)
    logits = np.log(found.probabilities.astype(np.float64))

    def loss(temperature):
        rows = log_softmax(logits / temperature, axis=1)
        return -rows[np.arange(len(rows)), found.classes].mean()

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(found) == pytest.approx(best, rel=1e-4)
    assert fit_temperature(found) == pytest.approx(sharpness, rel=0.05)
    scaled = with_temperature(found, fit_temperature(found))
    assert expected_calibration_error(scaled) < 0.03
    np.testing.assert_array_equal(scaled.probabilities.argmax(1), found.probabilities.argmax(1))
    assert scaled.indices is found.indices


def test_where_all_images_are_right_there_is_no_temperature():
    found = Predictions(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), np.array([0, 1]))
    with pytest.raises(UserError, match="no temperature fits these 2 images"):
        fit_temperature(found)
