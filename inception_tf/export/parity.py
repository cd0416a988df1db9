# SPDX-License-Identifier: Apache-2.0
"""Does another form of a network answer as the network does?  Both are asked about the same real images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data import pipeline
from inception_tf.data.decoding.images import evaluation_steps
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import SPLIT_SEED, Split
from inception_tf.errors import UserError
from inception_tf.evaluation.metrics import in_top

__all__ = ["Parity", "compare_outputs", "image_batches", "sample_split"]


@dataclass(frozen=True)
class Parity:
    """What the same images gave in Keras, before, and in another form, after; shares are from 0 to 1."""

    images: int
    largest_difference: float  # between two probabilities of one class
    same_top1: float  # share of the images with the same best class
    top1_before: float  # accuracy
    top1_after: float

    @property
    def drop(self) -> float:
        """Accuracy that was lost, as a share of all images; negative where some was won."""
        return self.top1_before - self.top1_after


def compare_outputs(
    model: keras.Model,
    run: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Parity:
    """Asks both about each batch (pixels (B, H, W, 3) float32, classes (B,)); `run` gives (B, K) as `model` does.

    Equal scores for several classes are no answer, neither before nor after.
    """
    before, after, classes = [], [], []
    for pixels, truth in batches:
        before.append(keras.ops.convert_to_numpy(model.predict_on_batch(pixels)))
        after.append(run(pixels))
        classes.append(truth)
    old, new, truth = (np.concatenate(parts) for parts in (before, after, classes))
    return Parity(
        images=len(truth),
        largest_difference=float(np.abs(new - old).max()),
        same_top1=float((new.argmax(axis=1) == old.argmax(axis=1)).mean()),
        top1_before=float(in_top(old, truth, 1).mean()),
        top1_after=float(in_top(new, truth, 1).mean()),
    )


def sample_split(split: Split, count: int) -> Split:
    """At most `count` images of a split, the same at every call, drawn from all of it."""
    order = np.random.RandomState(SPLIT_SEED).permutation(len(split))
    return split.take(np.sort(order[:count]))


def image_batches(
    split: Split, preprocessing: Preprocessing, *, batch_size: int, max_bad: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches (pixels (B, size, size, 3) float32 as `preprocessing` scales them, classes (B,) int64) of all readable images.

    Raises `UserError` where none can be read, or more than a share of `max_bad` cannot.
    """
    bad, seen = BadImages(split, max_bad), 0
    data = pipeline.evaluation_batches(
        split, evaluation_steps(preprocessing), batch_size=batch_size, bad=bad
    )
    try:
        for pixels, index in data:
            seen += len(index)
            yield pixels.numpy(), split.classes[index.numpy()]
    except tf.errors.OpError as error:
        if bad.exceeded:
            raise bad.error() from error
        raise
    if not seen:
        raise UserError(f"none of the {len(split)} images can be read")
