# SPDX-License-Identifier: Apache-2.0
"""Probabilities of one network or of several together, and what they are worth: top-1, top-5, by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from inception_tf.classifiers import Classifier
from inception_tf.data import pipeline
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError
from inception_tf.evaluation.crops import crop_steps
from inception_tf.inference.optimize import optimize_for_inference

__all__ = [
    "Predictions",
    "per_class_accuracy",
    "confusion_matrix",
    "ensemble",
    "in_top",
    "wilson_interval",
    "predict_split",
    "accuracy_metrics",
]

NORMAL_95 = 1.959964  # the normal distribution has 95 % within so many deviations


@dataclass(frozen=True)
class Predictions:
    """The probabilities that one network, or several, give for the readable images of a split.

    probabilities: (N, K) float32.  classes: (N,) int64, the truth.
    """

    probabilities: np.ndarray
    classes: np.ndarray


def predict_split(
    member: Classifier,
    split: Split,
    *,
    crops: int = 1,
    batch_size: int = 32,
    bad: BadImages | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> Predictions:
    """The network's probabilities for each readable image, averaged over its crops after the softmax.

    batch_size: crops that pass through the network together.  bad: where unreadable images are
    noted.  on_images: hears after each batch how many images it had.
    """
    bad = bad or BadImages(split)
    together = max(1, batch_size // crops)  # images
    network = optimize_for_inference(member.model)
    forward = tf.function(lambda images: network(images, training=False), autograph=False)
    data = pipeline.evaluation(
        split, crop_steps(member.preprocessing, crops), batch_size=together, bad=bad
    )
    rows, places = [], []
    try:
        for pixels, index in data:
            rows.append(_forward(forward, pixels, crops, batch_size))
            places.append(index.numpy())
            on_images(len(index))
    except tf.errors.OpError as error:
        if bad.exceeded:
            raise bad.error() from error
        raise
    if not rows:
        raise UserError(f"none of the {len(split)} images can be read")
    return Predictions(np.concatenate(rows), split.classes[np.concatenate(places)])


def ensemble(members: Sequence[Predictions]) -> Predictions:
    """The arithmetic mean of the members' probabilities (Szegedy et al. 2014, section 7)."""
    mean = sum(member.probabilities for member in members) / len(members)
    return Predictions(mean, members[0].classes)


def accuracy_metrics(found: Predictions) -> Iterator[tuple[str, object]]:
    """Pairs `(name, value)`: top1 and top5, shares of 1, each with its 95 % interval, and the number of images."""
    for k in (1, 5):
        right = in_top(found.probabilities, found.classes, k)
        yield f"top{k}", float(right.mean())
        yield f"top{k}_interval", list(wilson_interval(int(right.sum()), len(right)))
    yield "images", len(found.classes)


def in_top(scores: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """(N,) bool: is the class among the `k` highest scores of its row?  scores: (N, K), classes: (N,).

    Ties count against the network: equal scores for all classes are no answer.
    """
    own = np.take_along_axis(scores, classes[:, None], axis=1)
    ahead = (scores >= own).sum(axis=1) - 1
    return ahead < k


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """Where the share behind `right` of `of` trials lies with 95 % confidence: Wilson's score interval (1927).

    Unlike the mean plus and minus two deviations it stays within 0 and 1, and it has a width where
    all or none are right.
    """
    share, z2 = right / of, NORMAL_95**2
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    reach = math.sqrt(share * (1 - share) * z2 / of + (z2 / (2 * of)) ** 2) / (1 + z2 / of)
    # At the ends the formula is exact, its rounding is not.
    return max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share))


def per_class_accuracy(found: Predictions) -> Iterator[tuple[int, int, float, float]]:
    """(class, images, top-1, top-5) of each class that the data shows."""
    first, five = (in_top(found.probabilities, found.classes, k) for k in (1, 5))
    for number in np.unique(found.classes):
        own = found.classes == number
        yield int(number), int(own.sum()), float(first[own].mean()), float(five[own].mean())


def confusion_matrix(found: Predictions) -> np.ndarray:
    """(K, K) int64: how many images of class [row] were taken for class [column]."""
    count = found.probabilities.shape[1]
    pairs = found.classes * count + found.probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def _forward(forward: Callable, pixels, crops: int, batch_size: int) -> np.ndarray:
    """(B, S, S, 3) or (B, crops, S, S, 3) → (B, K), the mean over the crops."""
    flat = np.reshape(pixels, (-1, *pixels.shape[-3:]))
    chunks = [
        forward(tf.constant(flat[start : start + batch_size])).numpy()
        for start in range(0, len(flat), batch_size)
    ]
    probabilities = np.concatenate(chunks).astype(np.float32)
    return probabilities.reshape(len(pixels), crops, -1).mean(axis=1)
