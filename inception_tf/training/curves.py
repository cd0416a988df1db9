# SPDX-License-Identifier: Apache-2.0
"""Loss, accuracy and learning rate over epochs as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inception_tf.host import plotting
from inception_tf.host.atomic_io import atomic_path
from inception_tf.training.best import best_row
from inception_tf.training.monitored import TITLES, monitored_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "new_figure"]


def draw_curves(history: list[dict], path: Path, title: str) -> None:
    """Draws loss, top-1 accuracy (or mean average precision) and learning rate as a PNG; the best epoch is marked.

    Args:
        history: one row per epoch, with `epoch`, `loss`, `top1`, `val_loss`, `val_top1` (or `map` and
            `val_map`) and, in runs of this version, `learning_rate`.
        path: the file to write.
        title: the heading of the plot.
    """
    figure = new_figure()
    score = monitored_metric(history[0])
    epochs = [row["epoch"] for row in history]
    losses, accuracies, rates = figure.subplots(1, 3)
    for axes, name, label, factor in (
        (losses, "loss", "loss", 1),
        (accuracies, score, f"{TITLES[score]} (%)", 100),
    ):
        # Readable in grayscale: dashes and markers distinguish the lines, not color alone.
        for key, line, legend in ((name, "o--", "training"), (f"val_{name}", "s-", "validation")):
            axes.plot(
                epochs, [factor * row[key] for row in history], line, markersize=3, label=legend
            )
        axes.set(ylabel=label)
    best = best_row(history)
    accuracies.plot(
        best["epoch"],
        100 * best[f"val_{score}"],
        "*",
        color="black",
        markersize=10,
        label=f"best: {best[f'val_{score}']:.2%}, epoch {best['epoch']}",
    )
    known = [row for row in history if row.get("learning_rate") is not None]
    rates.plot(
        [row["epoch"] for row in known], [row["learning_rate"] for row in known], "o-", markersize=3
    )
    rates.set(ylabel="learning rate")
    for axes in (losses, accuracies, rates):
        axes.set(xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    losses.legend(fontsize=8)
    accuracies.legend(fontsize=8)
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def new_figure() -> Figure:
    """Creates the empty figure that `draw_curves` fills; called early to find out whether matplotlib is there.

    Returns:
        A matplotlib figure.
    """
    return plotting.new_figure("training", 12, 3.6)
