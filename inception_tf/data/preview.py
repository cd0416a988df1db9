# SPDX-License-Identifier: Apache-2.0
"""A picture of what a network is fed: images as they are augmented for training, and as they are evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import preprocessing_of_run
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Preview", "draw_preview", "make_preview"]

ROWS, VERSIONS = 6, 5  # images, and augmented versions of each
CANDIDATES = 4  # times as many images are considered, because some may be unreadable


@dataclass(frozen=True)
class Preview:
    """N images as a network gets them."""

    training: np.ndarray  # (N, V, S, S, 3) float32 in [-1, 1], V augmented versions of each
    # (N, V, N) float32: the weights of the N images' labels in each version's label; one-hot unless mixed.
    label_weights: np.ndarray
    evaluation: np.ndarray  # (N, S, S, 3) float32 in [-1, 1]
    labels: tuple[str, ...]  # the N images' classes


def make_preview(
    split: Split, labels: tuple[str, ...], config: DataConfig, *, size: int, seed: int
) -> Preview:
    """Pass some images of different classes through the training and the evaluation pipeline.

    Args:
        split: The images.
        labels: Names of the classes.
        config: The `data` section of a configuration.
        size: int. Height and width in pixels.
        seed: int. Of the choice of images and of the augmentations.

    Returns:
        Up to `ROWS` images in `VERSIONS` versions.

    Raises:
        UserError: None of the images can be read.
    """
    chosen, evaluation = _readable(split, config, size, seed)
    count = len(chosen)
    # Each image is its own class, so that the label identifies it.
    subset = dataclasses.replace(
        split.take(chosen), classes=np.arange(count, dtype=np.int64), targets=None
    )
    mixing = dataclasses.replace(config, batch_size=count)
    plain = dataclasses.replace(mixing, mixup_alpha=0.0, cutmix_alpha=0.0)
    stream = {"size": size, "classes": count, "seed": seed, "epochs": VERSIONS}
    training = np.empty((count, VERSIONS, size, size, 3), np.float32)
    label_weights = np.empty((count, VERSIONS, count), np.float32)
    shown = pipeline.training_batches(subset, mixing, **stream)
    batches: Iterable[tuple[Any, Any]]
    if mixing == plain:
        batches = ((batch, batch) for batch in shown)
    else:
        batches = zip(shown, pipeline.training_batches(subset, plain, **stream), strict=True)
    for version, ((pixels, mixed), (_, one_hot)) in enumerate(batches):
        # The order does not depend on the mixing: the plain stream tells which image is which.
        rows = one_hot.numpy().argmax(axis=1)
        training[rows, version] = pixels
        label_weights[rows, version] = mixed
    names = tuple(", ".join(split.names(index, labels)) for index in chosen)
    return Preview(training, label_weights, evaluation, names)


def draw_preview(shown: Preview, path: Path, title: str) -> None:
    """Draw a preview as a PNG file, one row per image.

    Args:
        shown: The preview.
        path: The file to write.
        title: str. The title of the figure.

    Raises:
        UserError: Matplotlib is not installed.
    """
    count, versions = shown.training.shape[:2]
    figure = new_figure("a preview", 1.7 * (versions + 1) + 1, 1.85 * count + 0.7)
    grid = figure.subplots(count, versions + 1, squeeze=False)
    for row, axes in enumerate(grid):
        for version in range(versions):
            _show(axes[version], shown.training[row, version])
            axes[version].set_xlabel(_mixed_label(shown, row, version), fontsize=7)
        _show(axes[-1], shown.evaluation[row])
        axes[0].set_ylabel(shown.labels[row], fontsize=9)
    for version in range(versions):
        grid[0, version].set_title(f"training {version + 1}", fontsize=9)
    grid[0, -1].set_title("evaluation", fontsize=9, fontweight="bold")
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _readable(
    split: Split, config: DataConfig, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `ROWS` indices into a split and their pixels for evaluation."""
    order = np.random.RandomState(seed).permutation(len(split))
    classes = split.classes[order]
    # How many of its class precede each: sorted by it, every class comes once before any comes twice.
    by_class = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[by_class], classes[by_class])
    before = np.empty(len(order), np.int64)
    before[by_class] = np.arange(len(order)) - starts
    candidates = order[np.argsort(before, kind="stable")][: CANDIDATES * ROWS]
    few = split.take(candidates)
    bad = BadImages(few, limit=1.0)
    steps = transforms.evaluation_steps(preprocessing_of_run(config, size))
    for pixels, index in pipeline.evaluation_batches(few, steps, batch_size=ROWS, bad=bad):
        return candidates[index.numpy()], pixels.numpy()
    raise bad.error()


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(np.clip((image + 1) / 2, 0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _mixed_label(shown: Preview, row: int, version: int) -> str:
    """The label of a mixed image, such as `70% rose, 30% tulip`; empty if it is the row's."""
    weights = shown.label_weights[row, version]
    if weights[row] == 1:
        return ""
    parts = sorted(
        ((weight, label) for weight, label in zip(weights, shown.labels, strict=True) if weight),
        reverse=True,
    )
    return ", ".join(f"{weight:.0%} {label}" for weight, label in parts)
