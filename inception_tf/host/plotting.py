# SPDX-License-Identifier: Apache-2.0
"""Figures for files: matplotlib without a window, and one clear error where it is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inception_tf.errors import missing_package

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["colormap", "new_figure"]


def colormap(what: str, name: str) -> Colormap:
    """Looks up a color map.

    Args:
        what: the feature that needs it, for the error.
        name: as matplotlib calls it.

    Returns:
        A function of an array in [0, 1] that gives colors, (..., 4) floats in [0, 1].

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise missing_package(what, "matplotlib", "train") from error
    return matplotlib.colormaps[name]


def new_figure(what: str, width: float, height: float) -> Figure:
    """Creates an empty figure with its own canvas, without touching `matplotlib.pyplot`.

    Args:
        what: the feature that needs it, for the error: `--plot needs matplotlib: pip install ...`.
        width, height: inches.

    Returns:
        A `matplotlib.figure.Figure` with constrained layout.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_package(what, "matplotlib", "train") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
