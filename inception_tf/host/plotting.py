# SPDX-License-Identifier: Apache-2.0
"""Figures for files: matplotlib without a window, and one sentence where it is not installed."""

from __future__ import annotations

from inception_tf.errors import missing_package

__all__ = ["new_figure"]


def new_figure(what: str, width: float, height: float):
    """An empty figure on a canvas of its own, which leaves `matplotlib.pyplot` alone.

    Args:
        what: str. What needs it, for the error: `--plot needs matplotlib: pip install ...`.
        width, height: inches.

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
