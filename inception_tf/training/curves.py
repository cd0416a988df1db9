# SPDX-License-Identifier: Apache-2.0
"""Loss and accuracy over epochs as a picture."""

from __future__ import annotations

from pathlib import Path

from inception_tf.errors import missing_package
from inception_tf.host.atomic_io import aside

__all__ = ["draw_curves", "new_figure"]


def draw_curves(history: list[dict], path: Path, title: str) -> None:
    """history: one row an epoch with `loss`, `top1`, `val_loss`, `val_top1` → a PNG file."""
    figure = new_figure()
    epochs = [row["epoch"] for row in history]
    panels = zip(
        figure.subplots(1, 2),
        (("loss", "loss", 1), ("top1", "top-1 accuracy (%)", 100)),
        strict=True,
    )
    for axes, (name, label, factor) in panels:
        # Readable in grayscale: dashes and markers tell the lines apart, not colour alone.
        axes.plot(
            epochs, [factor * row[name] for row in history], "o--", markersize=3, label="training"
        )
        axes.plot(
            epochs,
            [factor * row[f"val_{name}"] for row in history],
            "s-",
            markersize=3,
            label="validation",
        )
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    with aside(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def new_figure():
    """An empty figure on a canvas of its own; `UserError` where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_package("training", "matplotlib", "train") from error
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
