# SPDX-License-Identifier: Apache-2.0
"""The look of the small experiments' figures: lines that differ without color, axes with a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["finish_axes", "line_style", "mean_curve", "numbers", "plot_rows"]

# Shade, dashes and marker together: a print in gray has them all.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "0.0", "linestyle": "-", "marker": "o"},
    {"color": "tab:red", "linestyle": "--", "marker": "s"},
    {"color": "tab:blue", "linestyle": "-.", "marker": "^"},
    {"color": "0.6", "linestyle": ":", "marker": "D"},
    {"color": "tab:green", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "tab:purple", "linestyle": (0, (1, 1)), "marker": "x"},
    {"color": "tab:brown", "linestyle": (0, (8, 2)), "marker": "*"},
    {"color": "tab:orange", "linestyle": (0, (3, 3)), "marker": "P"},
)
MARKERS = 12  # along a line


def line_style(number: int, points: int = 1) -> dict[str, Any]:
    """The look of a line.

    Args:
        number: which of the lines of a panel, from 0.
        points: of the line; about a dozen of them get a marker.

    Returns:
        Arguments of `Axes.plot`.
    """
    look = STYLES[number % len(STYLES)]
    return look | {"markersize": 4, "linewidth": 1.3, "markevery": max(1, points // MARKERS)}


def numbers(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """A column of a table for arithmetic and plots.

    Args:
        rows: of the table.
        key: of the column.

    Returns:
        (N,) float64, NaN where a row has no value: it compares as false, and is not drawn.
    """
    return np.array([math.nan if row[key] is None else row[key] for row in rows], float)


def plot_rows(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
    number: int,
    *,
    label: str,
    factor: float = 1.0,
) -> None:
    """Draws a column of a table over another, with the spread over seeds as bars.

    Args:
        axes: to draw into.
        rows: of the table; a missing spread has no bar.
        x, y: keys of columns.
        number: which of the lines of the panel.
        label: of the line.
        factor: on y.
    """
    look = line_style(number)
    del look["markevery"]
    bars = factor * np.nan_to_num(numbers(rows, f"{y}_sd"))
    axes.errorbar(numbers(rows, x), factor * numbers(rows, y), bars, capsize=3, label=label, **look)


def mean_curve(curves: Sequence[Sequence[dict]], key: str) -> tuple[list[float], list[float]]:
    """The mean over seeds of a number that was measured at the same steps.

    Args:
        curves: the rows of each seed, from `train_loop`.
        key: of the number.

    Returns:
        Steps and means, up to the first row where a seed has none, as in a training that diverged; rows without
        the number at the start are skipped.
    """
    steps: list[float] = []
    means: list[float] = []
    for rows in zip(*curves, strict=False):
        values = [row[key] for row in rows]
        if None in values:
            if steps:
                break
            continue
        steps.append(rows[0]["step"])
        means.append(sum(values) / len(values))
    return steps, means


def finish_axes(axes: Axes, **labels: Any) -> None:
    """Adds the grid, the legend and the labels of a panel.

    Args:
        axes: with its lines.
        **labels: for `Axes.set`, such as xlabel, ylabel, title and xscale.
    """
    axes.set(**labels)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
