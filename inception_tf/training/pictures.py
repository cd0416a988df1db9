# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: its first training images as the network gets them, and its answers on images of the evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from inception_tf.data.mosaic import Tile, answer_tile, draw_mosaic, read_pixels
from inception_tf.data.sources.splits import Split
from inception_tf.inference.prediction import THRESHOLD, named_answers

if TYPE_CHECKING:
    from inception_tf.training.plan import TrainingPlan

__all__ = [
    "ANSWERS",
    "TRAIN_BATCHES",
    "draw_answers",
    "draw_training_batches",
    "first_and_rest",
]

TRAIN_BATCHES, ANSWERS = "train_batches.png", "validation_answers.png"  # in a run folder
DRAWN = 24  # training images
LEAST = 0.005  # weight of a class in a mixed image that is still named
ANSWERED = 12  # images of the evaluation, which the network classifies for it


def draw_training_batches(
    batches: Iterable[tuple[Any, Any]], labels: Sequence[str], path: Path, title: str
) -> None:
    """Draws the first training images after their augmentation, with the names of their classes.

    Args:
        batches: Pixels (B, S, S, 3) in [-1, 1] and targets (B, K), as the network gets them.
        labels: K class names.
        path: The file to write.
        title: Its heading.
    """
    tiles: list[Tile] = []
    for images, targets in batches:
        for image, target in zip(_array(images), _array(targets), strict=True):
            tiles.append(Tile((image + 1) / 2, (_shown(target, labels),)))
        if len(tiles) >= DRAWN:
            break
    draw_mosaic(tiles[:DRAWN], path, title, "training")


def first_and_rest(batches: Iterable[Any]) -> tuple[Any, Iterator[Any]]:
    """Takes the first element of a stream.

    Args:
        batches: At least one element.

    Returns:
        The first element; and all of them, of which it is not read again.
    """
    rest = iter(batches)
    first = next(rest)
    return first, chain((first,), rest)


def draw_answers(network: keras.Model, plan: TrainingPlan, path: Path, title: str) -> None:
    """Draws images of the evaluation with their true classes and the network's answers; wrong ones are marked.

    Args:
        network: The result, (N, S, S, 3) in [-1, 1] → (N, K) probabilities.
        plan: For the images, which are spread over the split, and their classes.
        path: The file to write.
        title: Its heading.
    """
    split, labels = plan.validation, plan.source.labels
    indices = _spread(split)
    pixels = read_pixels(split, indices, plan.preprocessing)
    tiles = []
    if pixels:
        # Not compiled for one batch, which would take longer than the batch.
        inputs = 2 * np.stack(list(pixels.values())) - 1
        found = keras.ops.convert_to_numpy(network(inputs, training=False))
        threshold = THRESHOLD if split.targets is not None else None
        for (index, image), row in zip(pixels.items(), found, strict=True):
            answers = named_answers(row, labels, threshold)
            tiles.append(answer_tile(image, split.names(index, labels), answers))
    draw_mosaic(tiles, path, title, "training")


def _spread(split: Split) -> np.ndarray:
    """Indices at equal distances, so that classes that follow each other are all shown."""
    count = min(ANSWERED, len(split))
    return np.unique(((np.arange(count) + 0.5) * len(split) / count).astype(np.int64))


def _shown(target: np.ndarray, labels: Sequence[str]) -> str:
    """The names of the classes; of a mixed image, with the weights of each."""
    found = [
        (target[k], labels[k]) for k in np.argsort(-target, kind="stable") if target[k] >= LEAST
    ]
    if all(weight > 1 - LEAST for weight, _ in found):
        return ", ".join(name for _, name in found) or "none"
    return ", ".join(f"{weight:.0%} {name}" for weight, name in found)


def _array(values: Any) -> np.ndarray:
    return values.numpy() if hasattr(values, "numpy") else np.asarray(values)
