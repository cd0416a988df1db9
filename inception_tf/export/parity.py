# SPDX-License-Identifier: Apache-2.0
"""Whether a converted network gives the outputs of the Keras model, measured on the same real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data import pipeline
from inception_tf.data.decoding.transforms import evaluation_steps
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import SPLIT_SEED, Split
from inception_tf.errors import UserError
from inception_tf.evaluation.metrics import in_top

__all__ = ["Parity", "compare_outputs", "image_batches", "sample_split"]


@dataclass(frozen=True)
class Parity:
    """Outputs for the same images in Keras (before) and in another format (after); fractions are in [0, 1]."""

    images: int
    largest_difference: float  # between the two probabilities of one class
    same_top1: float  # fraction of the images with the same best class
    top1_before: float  # accuracy
    top1_after: float  # accuracy

    @property
    def drop(self) -> float:
        """Top-1 accuracy that was lost, as a fraction of all images; negative where it rose."""
        return self.top1_before - self.top1_after


def compare_outputs(
    model: keras.Model,
    converted: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Parity:
    """Runs a Keras model and its converted form on the same batches.

    An image whose best score several classes share counts as wrong, before and after.

    Args:
        model: (N, H, W, 3) float32 → (N, K) probabilities.
        converted: The same, of arrays.
        batches: Pixels (B, H, W, 3) float32 with true classes (B,).

    Returns:
        The differences over all batches.
    """
    before, after, classes = [], [], []
    for pixels, truth in batches:
        # Not `predict_on_batch`, whose graph TensorFlow warns of when several models are compared.
        before.append(keras.ops.convert_to_numpy(model(pixels, training=False)))
        after.append(converted(pixels))
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
    """Draws images from all of a split, the same at every call.

    Args:
        split: The images.
        count: How many at most.

    Returns:
        A split of the drawn images, in the order of `split`.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(split))
    return split.take(np.sort(order[:count]))


def image_batches(
    split: Split, preprocessing: Preprocessing, *, batch_size: int, max_bad: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decodes and preprocesses the readable images of a split.

    Args:
        split: The images.
        preprocessing: Size, crop and scale of the network.
        batch_size: Images per batch.
        max_bad: Largest allowed fraction of unreadable images, in [0, 1].

    Returns:
        Batches of pixels (B, size, size, 3) float32 and true classes (B,) int64.

    Raises:
        UserError: No image can be read, or more than `max_bad` cannot.
    """
    bad, seen = BadImages(split, max_bad, option=None), 0  # export has none
    data = pipeline.evaluation_batches(
        dataclasses.replace(split, bits=preprocessing.bits),
        evaluation_steps(preprocessing),
        batch_size=batch_size,
        bad=bad,
    )
    try:
        for pixels, index in data:
            seen += len(index)
            yield pixels.numpy(), split.classes[index.numpy()]
    except tf.errors.OpError as error:
        failure = bad.failure()
        if failure:
            raise failure from error
        raise
    if not seen:
        raise UserError(f"none of the {len(split)} images can be read")
