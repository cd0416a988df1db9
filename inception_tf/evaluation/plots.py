# SPDX-License-Identifier: Apache-2.0
"""Plots of an evaluation: the confusion matrix, the most confident mistakes, confidence against accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inception_tf.data.mosaic import answer_tile, draw_mosaic, read_pixels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.splits import Split
from inception_tf.evaluation.calibration import ReliabilityBin
from inception_tf.evaluation.metrics import Predictions
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure
from inception_tf.inference.prediction import THRESHOLD, named_answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_confusion", "draw_mistakes", "draw_reliability"]

MISTAKES = 24
MAX_LABELED = 30  # classes up to which each cell shows its count


def draw_confusion(counts: np.ndarray, labels: Sequence[str], path: Path, title: str) -> None:
    """Draws a confusion matrix as a PNG: each row's fractions in gray, with counts and names up to 30 classes.

    Args:
        counts: (K, K) int, the true class by row.
        labels: K class names.
        path: the file to write.
        title: the heading of the plot.
    """
    count = len(counts)
    side = min(max(4.0, 0.42 * count + 2), 14.0)  # inches
    figure = new_figure("--confusion", side + 1, side)
    axes = figure.subplots()
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(fractions, cmap="Greys", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="fraction of the images of a class")
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    if count <= MAX_LABELED:
        axes.set_xticks(range(count), labels, rotation=90)
        axes.set_yticks(range(count), labels)
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], color=ink, ha="center", va="center", fontsize=8
            )
    _save(figure, path)


def draw_mistakes(
    predictions: Predictions,
    split: Split,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    path: Path,
    title: str,
    threshold: float = THRESHOLD,
) -> int:
    """Draws the wrong answers that the network was most certain of, as a PNG, each with both names.

    Args:
        predictions: of images of `split`.
        split: for their pixels and names.
        labels: K class names.
        preprocessing: what the network sees of an image.
        path: the file to write.
        title: the heading of the plot.
        threshold: of multi-label data, from which probability on a class is predicted.

    Returns:
        How many are drawn, at most 24; with none, a figure that says so.
    """
    wrong = _most_certain_mistakes(predictions, threshold)[:MISTAKES]
    indices = predictions.indices[wrong]
    pixels = read_pixels(split, indices, preprocessing)
    tiles = []
    for row, index in zip(wrong, indices.tolist(), strict=True):
        if index not in pixels:
            continue
        found = named_answers(
            predictions.probabilities[row],
            labels,
            None if predictions.targets is None else threshold,
        )
        name = Path(split.describe(index)).name
        tiles.append(
            answer_tile(pixels[index], predictions.names(row, labels), found, _short(name))
        )
    draw_mosaic(tiles, path, title if tiles else f"{title}: no mistakes", "--mistakes")
    return len(tiles)


def _most_certain_mistakes(predictions: Predictions, threshold: float) -> np.ndarray:
    """The images with a wrong answer, the most certain first."""
    probabilities = predictions.probabilities
    if predictions.targets is None:
        wrong = np.flatnonzero(probabilities.argmax(axis=1) != predictions.classes)
        return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    shown = predictions.targets.astype(bool)
    decided = probabilities >= threshold
    apart = np.where(decided != shown, np.abs(probabilities - shown), 0.0).max(axis=1)
    wrong = np.flatnonzero((decided != shown).any(axis=1))
    return wrong[np.argsort(-apart[wrong], kind="stable")]


def draw_reliability(bins: Sequence[ReliabilityBin], error: float, path: Path, title: str) -> None:
    """Draws accuracy against confidence as a PNG, with the number of images below.

    Args:
        bins: of `reliability_bins`.
        error: the expected calibration error.
        path: the file to write.
        title: the heading of the plot.
    """
    figure = new_figure("--reliability", 5.5, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color="black", linestyle=":", label="as certain as right")
    centers = [(one.low + one.high) / 2 for one in bins]
    width = bins[0].high - bins[0].low if bins else 1.0
    above.bar(
        centers,
        [one.accuracy for one in bins],
        width=width,
        color="0.75",
        edgecolor="black",
        label="accuracy",
    )
    above.plot(
        [one.confidence for one in bins],
        [one.accuracy for one in bins],
        "o",
        color="tab:blue",
        label="mean confidence",
    )
    above.set(
        title=f"{title}\nexpected calibration error {error:.2%}",
        xlim=(0, 1),
        ylim=(0, 1),
        ylabel="accuracy",
    )
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    below.bar(centers, [one.images for one in bins], width=width, color="0.75", edgecolor="black")
    below.set(xlabel="confidence: the highest probability of an image", ylabel="images")
    _save(figure, path)


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"...{name[3 - most :]}"


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
