# SPDX-License-Identifier: Apache-2.0
"""Top-1 and top-5 of one model or of several together, from class probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data import pipeline
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources import Split
from inception_tf.errors import UserError

__all__ = ["Member", "in_top", "probabilities", "scores"]


@dataclass(frozen=True)
class Member:
    """One network of an evaluation with the view of the images that belongs to it."""

    name: str
    model: (
        keras.Model
    )  # (N, size, size, 3) float32 as `view` scales it → (N, classes) probabilities
    labels: tuple[str, ...]
    view: Preprocessing


def scores(
    members: Sequence[Member], split: Split, labels: tuple[str, ...], batch_size: int = 32
) -> Iterator:
    """Pairs `(name, value)`: top1 and top5 (shares of 1), images used, images skipped.

    Several members are an ensemble: the arithmetic mean of their probabilities.  Raises `UserError`
    where a member's classes are not those of the data.
    """
    for member in members:
        _check_classes(member, labels)
    mean = sum(probabilities(member, split, batch_size) for member in members) / len(members)
    yield "top1", float(in_top(mean, split.classes, 1).mean())
    yield "top5", float(in_top(mean, split.classes, 5).mean())
    yield "images", len(split)
    yield "skipped", 0  # an image that cannot be read is an error, never left out in silence


def probabilities(member: Member, split: Split, batch_size: int = 32) -> np.ndarray:
    """(N, classes) float32, one row an image of `split`, in order."""
    data = pipeline.evaluation(
        split, member.view, classes=len(member.labels), batch_size=batch_size
    )
    try:
        rows = [forward(member.model, images) for images, _ in data]
    except tf.errors.InvalidArgumentError as error:
        bad = pipeline.first_bad_image(split)
        if bad:
            raise UserError(f"an image cannot be read: {bad}; repair or remove the file") from error
        raise
    return np.concatenate(rows)


def in_top(scores: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """(N,) bool: is the class among the `k` highest scores of its row?  scores: (N, K), classes: (N,).

    Ties count against the network: equal scores for all classes are no answer.
    """
    own = np.take_along_axis(scores, classes[:, None], axis=1)
    ahead = (scores >= own).sum(axis=1) - 1
    return ahead < k


def forward(model: keras.Model, images) -> np.ndarray:
    return keras.ops.convert_to_numpy(model.predict_on_batch(images))


def _check_classes(member: Member, labels: tuple[str, ...]) -> None:
    if len(member.labels) != len(labels):
        raise UserError(
            f"{member.name} has {len(member.labels)} classes and the data has {len(labels)};"
            " evaluate on the data that the model was trained for"
        )
    for index, (ours, theirs) in enumerate(zip(member.labels, labels, strict=True)):
        if ours != theirs:
            raise UserError(
                f"class {index} is '{ours}' in {member.name} and '{theirs}' in the data;"
                " evaluate on data with the same class names"
            )
