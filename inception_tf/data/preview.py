# SPDX-License-Identifier: Apache-2.0
"""What a network is really fed, as a picture: training and evaluation views of some images, side by side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.decoding import images
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

__all__ = ["Views", "draw_preview", "views"]

ROWS, VERSIONS = 6, 5  # images, and training views of each
TRIED = 4  # times as many images are tried, in case some cannot be read


@dataclass(frozen=True)
class Views:
    """N images as a network gets them.

    training: (N, V, S, S, 3) float32 -1..1, V distorted versions of each.  shares: (N, V, N) float32,
    how much of which image's label each version is trained with: its own alone, unless mixed.
    evaluation: (N, S, S, 3) float32 -1..1.  labels: the N images' classes.
    """

    training: np.ndarray
    shares: np.ndarray
    evaluation: np.ndarray
    labels: tuple[str, ...]


def views(
    split: Split, labels: tuple[str, ...], config: DataConfig, *, size: int, seed: int
) -> Views:
    """Some images of a split, of different classes where it has them, through the two pipelines themselves."""
    chosen, evaluation = _readable(split, config, size, seed)
    count = len(chosen)
    # Each image is a class of its own, so that a label tells which image was fed.
    few = dataclasses.replace(split.take(chosen), classes=np.arange(count, dtype=np.int64))
    mixing = dataclasses.replace(config, batch_size=count)
    plain = dataclasses.replace(mixing, mixup_alpha=0.0, cutmix_alpha=0.0)
    stream = {"size": size, "classes": count, "seed": seed, "epochs": VERSIONS}
    training = np.empty((count, VERSIONS, size, size, 3), np.float32)
    shares = np.empty((count, VERSIONS, count), np.float32)
    batches = zip(
        pipeline.training(few, mixing, **stream),
        pipeline.training(few, plain, **stream),
        strict=True,
    )
    for version, ((pixels, mixed), (_, own)) in enumerate(batches):
        # The order does not depend on the mixing: whose labels are whose can be read off the plain stream.
        rows = own.numpy().argmax(axis=1)
        training[rows, version] = pixels
        shares[rows, version] = mixed
    return Views(training, shares, evaluation, tuple(labels[c] for c in split.classes[chosen]))


def draw_preview(shown: Views, path: Path, title: str) -> None:
    """One row an image, training views first → a PNG file; `UserError` where matplotlib is not installed."""
    count, versions = shown.training.shape[:2]
    figure = new_figure("a preview", 1.7 * (versions + 1) + 1, 1.85 * count + 0.7)
    grid = figure.subplots(count, versions + 1, squeeze=False)
    for row, axes in enumerate(grid):
        for version in range(versions):
            _show(axes[version], shown.training[row, version])
            axes[version].set_xlabel(_fed(shown, row, version), fontsize=7)
        _show(axes[-1], shown.evaluation[row])
        axes[0].set_ylabel(shown.labels[row], fontsize=9)
    for version in range(versions):
        grid[0, version].set_title(f"training {version + 1}", fontsize=9)
    grid[0, -1].set_title("evaluation", fontsize=9, fontweight="bold")
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _readable(split: Split, config: DataConfig, size: int, seed: int):
    """Up to `ROWS` indices into a split and their evaluation views; `UserError` where none can be read."""
    order = np.random.RandomState(seed).permutation(len(split))
    classes = split.classes[order]
    # How many of its class stand before each: sorted by it, every class comes once before any comes twice.
    by_class = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[by_class], classes[by_class])
    before = np.empty(len(order), np.int64)
    before[by_class] = np.arange(len(order)) - starts
    tried = order[np.argsort(before, kind="stable")][: TRIED * ROWS]
    few = split.take(tried)
    bad = BadImages(few, limit=1.0)
    steps = images.evaluation_steps(Preprocessing(size, config.crop))
    for pixels, index in pipeline.evaluation(few, steps, batch_size=ROWS, bad=bad):
        return tried[index.numpy()], pixels.numpy()
    raise bad.error()


def _show(axes, image) -> None:
    axes.imshow(np.clip((image + 1) / 2, 0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _fed(shown: Views, row: int, version: int) -> str:
    """The label of a mixed image, such as `70 % rose, 30 % tulip`; nothing where it is the row's own."""
    shares = shown.shares[row, version]
    if shares[row] == 1:
        return ""
    parts = sorted(
        ((share, label) for share, label in zip(shares, shown.labels, strict=True) if share),
        reverse=True,
    )
    return ", ".join(f"{share:.0%} {label}" for share, label in parts)
