# SPDX-License-Identifier: Apache-2.0
"""Figure 2 of the batch normalization paper from measured curves, next to what section 4.2.2 says in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_tf.experiments.variant_outcomes import BASELINE, Curve
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_figure2"]

# Readable in grayscale: shade, dashes and marker together distinguish the lines.
STYLES: dict[str, dict[str, Any]] = {
    "inception": {"color": "0.0", "linestyle": "--", "marker": "o"},
    "bn-baseline": {"color": "0.45", "linestyle": ":", "marker": "s"},
    "bn-x5": {"color": "tab:blue", "linestyle": "-", "marker": "^"},
    "bn-x30": {"color": "tab:red", "linestyle": "-.", "marker": "D"},
    "bn-x5-sigmoid": {"color": "tab:green", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    "inception-x5": {"color": "tab:purple", "linestyle": "-", "marker": "x"},
    "inception-sigmoid": {"color": "tab:brown", "linestyle": ":", "marker": "*"},
}
PANELS = (
    (
        "Inception and its batch-normalized variants",
        (BASELINE, "bn-baseline", "bn-x5", "bn-x30", "bn-x5-sigmoid"),
    ),
    (
        "What batch normalization makes possible",
        (BASELINE, "inception-x5", "bn-x5", "inception-sigmoid", "bn-x5-sigmoid"),
    ),
)


def draw_figure2(curves: Sequence[Curve], path: Path, *, chance: float, title: str) -> None:
    """Draws a PNG of validation accuracy, in %, over steps.

    Args:
        curves: of the variants that have started.
        path: the file to write.
        chance: the accuracy, in [0, 1], up to which a network counts as no better than chance.
        title: the heading of the plot.
    """
    found = {curve.name: curve for curve in curves}
    figure = new_figure("the figure", 10.5, 5.2)
    for axes, (heading, names) in zip(figure.subplots(1, 2, sharey=True), PANELS, strict=True):
        for name in names:
            if name in found:
                _line(axes, found[name])
        best = found[BASELINE].best if BASELINE in found else None
        if best:
            axes.axhline(100 * best["val_top1"], color="0.6", linewidth=0.8, zorder=0)
        axes.axhline(100 * chance, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        axes.set(xlabel="training steps of 32 images", title=heading)
        axes.grid(alpha=0.25)
        if any(name in found for name in names):
            axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13))
        axes.label_outer()
    figure.axes[0].set_ylabel("validation accuracy, single crop (%)")
    figure.suptitle(title, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _line(axes: Axes, curve: Curve) -> None:
    label = f"{curve.name}, learning rate {curve.learning_rate:.3g}"
    if curve.diverged_at is not None:
        label += f" (diverged at step {curve.diverged_at:,})"
    steps = [row["step"] for row in curve.points]
    accuracies = [100 * row["val_top1"] for row in curve.points]
    axes.plot(steps, accuracies, markersize=4.5, linewidth=1.4, label=label, **STYLES[curve.name])
