# SPDX-License-Identifier: Apache-2.0
"""Predictions of one network or of an ensemble, and their accuracy: top-1, top-5, per class."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from inception_tf.classifiers import Classifier
from inception_tf.data import pipeline
from inception_tf.data.labels import names_shown
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError
from inception_tf.evaluation.crops import crop_steps
from inception_tf.inference.forward import compiled_forward
from inception_tf.inference.optimize import optimize_for_inference

__all__ = [
    "Predictions",
    "accuracy_metrics",
    "confusion_matrix",
    "ensemble",
    "in_top",
    "per_class_accuracy",
    "predict_split",
    "wilson_interval",
]

NORMAL_95 = 1.959964  # standard deviations that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Predictions:
    """The probabilities that one network, or an ensemble, gives for the readable images of a split."""

    probabilities: np.ndarray  # (N, K) float32; rows sum to 1, of multi-label data they need not
    classes: np.ndarray  # (N,) int64, the true classes
    # (N,) int64, of the images in the split; without an order of its own: 0, 1, 2 ...
    indices: np.ndarray = field(default=None)
    targets: np.ndarray | None = None  # (N, K) uint8, all true classes of multi-label data

    def __post_init__(self) -> None:
        if self.indices is None:
            object.__setattr__(self, "indices", np.arange(len(self.classes)))

    def names(self, row: int, labels: Sequence[str]) -> tuple[str, ...]:
        """The names of the true classes of one image.

        Args:
            row: its number among these predictions.
            labels: K class names.

        Returns:
            One name; of multi-label data any number.
        """
        target = None if self.targets is None else self.targets[row]
        return names_shown(labels, self.classes[row], target)

    def without_background(self) -> Predictions:
        """The predictions among all classes but the first, as a network without a background gives them."""
        rest = self.probabilities[:, 1:]
        total = rest.sum(axis=1, keepdims=True)
        probabilities = rest / np.maximum(total, np.finfo(np.float32).tiny)
        return replace(self, probabilities=probabilities, classes=self.classes - 1)


def predict_split(
    classifier: Classifier,
    split: Split,
    *,
    crops: int = 1,
    batch_size: int = 32,
    bad: BadImages | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Predictions:
    """Classifies every readable image of a split, averaging the probabilities of its crops.

    Args:
        classifier: the network with its preprocessing.
        split: the images and their true classes.
        crops: 1, 10 or 144 crops per image, see `crop_steps`.
        batch_size: crops that pass through the network together.
        bad: collects the unreadable images; None: the default limit.
        on_images: called after each batch with its number of images.

    Returns:
        The predictions, without the images that could not be read.

    Raises:
        UserError: no image, or fewer than `bad` allows, can be read.
    """
    bad = bad or BadImages(split)
    together = max(1, batch_size // crops)  # images
    network = optimize_for_inference(classifier.model)
    forward = compiled_forward(network)
    data = pipeline.evaluation_batches(
        dataclasses.replace(split, bits=classifier.preprocessing.bits),
        crop_steps(classifier.preprocessing, crops),
        batch_size=together,
        bad=bad,
    )
    rows, indices = [], []
    try:
        for pixels, index in data:
            rows.append(_forward(forward, pixels, crops, batch_size))
            indices.append(index.numpy())
            on_images(len(index))
    except tf.errors.OpError as error:
        failure = bad.failure()
        if failure:
            raise failure from error
        raise
    if not rows:
        raise UserError(f"none of the {len(split)} images can be read")
    found = np.concatenate(indices)
    targets = None if split.targets is None else split.targets[found]
    return Predictions(np.concatenate(rows), split.classes[found], found, targets)


def ensemble(members: Sequence[Predictions]) -> Predictions:
    """Averages the probabilities of several networks on the same images.

    Args:
        members: predictions for the same images in the same order.

    Returns:
        Their arithmetic mean.  Szegedy et al. 2014, section 7.  Of members with and without a background as their
        first class, among the classes that all have.
    """
    fewest = min(member.probabilities.shape[1] for member in members)
    members = [
        member.without_background() if member.probabilities.shape[1] > fewest else member
        for member in members
    ]
    mean = sum(member.probabilities for member in members) / len(members)
    return replace(members[0], probabilities=mean)


def accuracy_metrics(predictions: Predictions) -> Iterator[tuple[str, object]]:
    """Computes top-1 and top-5 accuracy.

    Args:
        predictions: of one network or an ensemble.

    Yields:
        Pairs `(name, value)`: top1 and top5 in [0, 1], each with its 95 % interval, and the number of images.
    """
    for k in (1, 5):
        correct = in_top(predictions.probabilities, predictions.classes, k)
        yield f"top{k}", float(correct.mean())
        yield f"top{k}_interval", list(wilson_interval(int(correct.sum()), len(correct)))
    yield "images", len(predictions.classes)


def in_top(scores: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the `k` highest scores of each row.

    Ties count against the network: equal scores for all classes are no prediction.

    Args:
        scores: (N, K), higher is better.
        classes: (N,) integers, the true classes.
        k: how many predictions are allowed.

    Returns:
        (N,) bool.
    """
    true_scores = np.take_along_axis(scores, classes[:, None], axis=1)
    ahead = (scores >= true_scores).sum(axis=1) - 1
    return ahead < k


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of an accuracy, by Wilson's score method (1927).

    Unlike the mean plus and minus two deviations it stays within [0, 1], and it has a width where all or none
    are correct.

    Args:
        correct: the number of correct images.
        total: the number of images, at least 1.

    Returns:
        (low, high), both in [0, 1].
    """
    accuracy, z2 = correct / total, NORMAL_95**2
    center = (accuracy + z2 / (2 * total)) / (1 + z2 / total)
    variance = accuracy * (1 - accuracy) * z2 / total + (z2 / (2 * total)) ** 2
    reach = math.sqrt(variance) / (1 + z2 / total)
    # At 0 and 1 the formula is exact, its rounding is not.
    return max(0.0, min(center - reach, accuracy)), min(1.0, max(center + reach, accuracy))


def per_class_accuracy(predictions: Predictions) -> Iterator[tuple[int, int, float, float]]:
    """Computes the accuracy of each class that occurs in the data.

    Args:
        predictions: of one network or an ensemble.

    Yields:
        (class, images, top-1, top-5), accuracies in [0, 1].
    """
    first, five = (in_top(predictions.probabilities, predictions.classes, k) for k in (1, 5))
    for number in np.unique(predictions.classes):
        rows = predictions.classes == number
        yield int(number), int(rows.sum()), float(first[rows].mean()), float(five[rows].mean())


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Counts true against predicted classes.

    Args:
        predictions: of one network or an ensemble.

    Returns:
        (K, K) int64: the images of true class [row] that were predicted as class [column].
    """
    count = predictions.probabilities.shape[1]
    pairs = predictions.classes * count + predictions.probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def _forward(forward: Callable, pixels: tf.Tensor, crops: int, batch_size: int) -> np.ndarray:
    """(B, S, S, 3) or (B, crops, S, S, 3) → (B, K), the mean over the crops."""
    flat = np.reshape(pixels, (-1, *pixels.shape[-3:]))
    places = None
    if crops > 1:
        # Of a square image 48 of 144 crops are distinct: the others are not computed again.
        seen: dict[bytes, int] = {}
        places = [seen.setdefault(crop.tobytes(), len(seen)) for crop in flat]
        flat = flat[np.unique(places, return_index=True)[1]]
    chunks = [
        forward(flat[start : start + batch_size]) for start in range(0, len(flat), batch_size)
    ]
    probabilities = np.concatenate(chunks).astype(np.float32)
    if places:
        probabilities = probabilities[places]
    return probabilities.reshape(len(pixels), crops, -1).mean(axis=1)
