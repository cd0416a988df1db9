# SPDX-License-Identifier: Apache-2.0
"""How good the predictions of independent classes are: mean average precision, and what a threshold on them gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from inception_tf.evaluation.metrics import Predictions
from inception_tf.inference.prediction import THRESHOLD

__all__ = [
    "average_precision",
    "confusion_matrices",
    "label_metrics",
    "multi_label_metrics",
]


def average_precision(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Computes the average precision of each class, as scikit-learn's `average_precision_score`.

    Args:
        targets: (N, K), 1 for each class that an image shows.
        scores: (N, K), higher is more certain; equal scores are one threshold.

    Returns:
        (K,) in [0, 1]; NaN for a class that no image shows.
    """
    found = []
    for shown, score in zip(targets.T.astype(np.float64), scores.T, strict=True):
        order = np.argsort(-score, kind="stable")
        # The last of equal scores stands for all of them.
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        right = np.cumsum(shown[order])[ends]
        gained = np.diff(right, prepend=0.0)
        total = shown.sum()
        found.append((gained * right / (ends + 1)).sum() / total if total else np.nan)
    return np.array(found)


def multi_label_metrics(
    predictions: Predictions, threshold: float = THRESHOLD
) -> Iterator[tuple[str, Any]]:
    """Computes what is reported of multi-label predictions.

    Args:
        predictions: Of one network or an ensemble, with targets.
        threshold: From which probability on a class is predicted.

    Yields:
        Pairs (name, value): `map`, the mean over the classes that any image shows; `threshold`; with it, over all
        decisions, `precision`, `recall` and `f1`; `exact`, the fraction of images with all classes right; `images`.
    """
    counts = confusion_matrices(predictions, threshold)
    (_, wrong), (missed, right) = counts.sum(axis=0).tolist()
    targets = _targets(predictions)
    each = average_precision(targets, predictions.probabilities)
    shown = targets.any(axis=0)
    yield "map", float(each[shown].mean()) if shown.any() else None
    yield "threshold", threshold
    yield "precision", right / max(right + wrong, 1)
    yield "recall", right / max(right + missed, 1)
    yield "f1", 2 * right / max(2 * right + wrong + missed, 1)
    same = (predictions.probabilities >= threshold) == targets.astype(bool)
    yield "exact", float(same.all(axis=1).mean())
    yield "images", len(targets)


def confusion_matrices(predictions: Predictions, threshold: float = THRESHOLD) -> np.ndarray:
    """Counts the decisions on each class, as scikit-learn's `multilabel_confusion_matrix`.

    Args:
        predictions: With targets.
        threshold: From which probability on a class is predicted.

    Returns:
        (K, 2, 2) int64: [[true negatives, false positives], [false negatives, true positives]].
    """
    shown = _targets(predictions).astype(bool)
    predicted = predictions.probabilities >= threshold
    cells = (~shown & ~predicted, ~shown & predicted, shown & ~predicted, shown & predicted)
    return np.stack([cell.sum(axis=0) for cell in cells], axis=1).reshape(-1, 2, 2)


def label_metrics(
    predictions: Predictions, labels: Sequence[str], threshold: float = THRESHOLD
) -> list[dict[str, Any]]:
    """Computes what is reported of each class.

    Args:
        predictions: With targets.
        labels: K class names.
        threshold: From which probability on a class is predicted.

    Returns:
        K dicts: name; images, that show it; predicted; average_precision, None for a class that no image shows; and with
        the threshold precision, recall and f1, 0 where nothing was predicted or nothing was there.
    """
    each = average_precision(_targets(predictions), predictions.probabilities)
    found = []
    for name, precision, counts in zip(
        labels, each, confusion_matrices(predictions, threshold).tolist(), strict=True
    ):
        (_, wrong), (missed, right) = counts
        found.append(
            {
                "name": name,
                "images": right + missed,
                "predicted": right + wrong,
                "average_precision": None if np.isnan(precision) else float(precision),
                "precision": right / max(right + wrong, 1),
                "recall": right / max(right + missed, 1),
                "f1": 2 * right / max(2 * right + wrong + missed, 1),
            }
        )
    return found


def _targets(predictions: Predictions) -> np.ndarray:
    if predictions.targets is None:
        raise ValueError("these predictions have one class per image")
    return predictions.targets
