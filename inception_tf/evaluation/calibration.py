# SPDX-License-Identifier: Apache-2.0
"""Calibration of probabilities: expected calibration error, the bins of a reliability diagram, and temperature scaling."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from inception_tf.errors import UserError
from inception_tf.evaluation.metrics import Predictions

__all__ = [
    "BINS",
    "ReliabilityBin",
    "expected_calibration_error",
    "fit_temperature",
    "reliability_bins",
    "with_temperature",
]

BINS = 15  # Guo et al. 2017, section 2
LIMITS = (0.05, 20.0)  # of a temperature
BISECTIONS = 60  # until nothing of float64 is left


class ReliabilityBin(NamedTuple):
    """The images whose highest probability lies in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float  # mean of their highest probabilities
    accuracy: float  # fraction of them that is right


def reliability_bins(predictions: Predictions, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Groups images by confidence, the highest of their probabilities.

    Args:
        predictions: of one network or an ensemble.
        bins: of equal width.

    Returns:
        The bins that have images, in order.
    """
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    right = predictions.probabilities.argmax(axis=1) == predictions.classes
    numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(
        ReliabilityBin(
            *(number / bins, (number + 1) / bins, int(inside.sum())),
            *(float(confidence[inside].mean()), float(right[inside].mean())),
        )
        for number in range(bins)
        if (inside := numbers == number).any()
    )


def expected_calibration_error(predictions: Predictions, bins: int = BINS) -> float:
    """Computes the mean distance between confidence and accuracy, over bins of confidence.

    Args:
        predictions: of one network or an ensemble.
        bins: of equal width.

    Returns:
        A number in [0, 1]; 0 where of the images that are given p, the fraction p is right.  Naeini et al. 2015.
    """
    found = reliability_bins(predictions, bins)
    apart = sum(one.images * abs(one.confidence - one.accuracy) for one in found)
    return apart / len(predictions.classes)


def fit_temperature(predictions: Predictions) -> float:
    """Finds the number to divide all logits by, for which the probabilities of the true classes are the highest.

    It changes no order of the classes of an image, and so no accuracy.  Guo et al. 2017, section 4.2.

    Args:
        predictions: of one network, on images that it was not trained on.

    Returns:
        The temperature; above 1 for a network that is too confident.

    Raises:
        UserError: There is none within 0.05 and 20, as where every image is right.
    """
    logits = _log(predictions)
    true = np.take_along_axis(logits, predictions.classes[:, None], axis=1)[:, 0]
    # The log-likelihood is concave in 1 / temperature: its derivative falls, from here to there.
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]

    def rises(inverse: float) -> bool:
        return bool((true - (_softmax(logits * inverse) * logits).sum(axis=1)).mean() > 0)

    if not rises(low) or rises(high):
        raise UserError(
            f"no temperature fits these {len(logits)} images, as where all or none are right; fit it on more"
            " images that the network was not trained on"
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    return 2 / (low + high)


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Divides the logits of predictions by a temperature.

    Args:
        predictions: of one network.
        temperature: above 0.

    Returns:
        Predictions of the same images.
    """
    probabilities = _softmax(_log(predictions) / temperature).astype(np.float32)
    return replace(predictions, probabilities=probabilities)


def _log(predictions: Predictions) -> np.ndarray:
    """Logits up to a number for each image; a probability of 0 stands for the smallest one."""
    tiny = np.finfo(np.float32).tiny
    return np.log(np.maximum(predictions.probabilities.astype(np.float64), tiny))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
