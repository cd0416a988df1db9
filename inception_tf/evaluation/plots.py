# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

__all__ = ["draw_confusion"]

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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
