# SPDX-License-Identifier: Apache-2.0
"""Figure 1 of Ioffe and Szegedy 2015 from the traces of two trainings: the plot and its numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from inception_tf.experiments.sigmoids import NETWORKS, PERCENTILES, TYPICAL, Trace
from inception_tf.training.curves import new_figure

__all__ = ["COLUMNS", "draw_figure1", "figure1_csv"]

COLUMNS = (
    "step",
    *(
        f"{name.replace(' ', '_').lower()}_{what}"
        for name in NETWORKS
        for what in ("accuracy", *(f"p{p}" for p in PERCENTILES))
    ),
)
LINES = ("--", "-")  # without and with, readable without color
SHADES = ("0.45", "0.0")
PERCENTILE_LINES = (":", "-", "--")
MIN_ACCURACY = 0.7  # at the bottom of the plot: what lies below takes a few hundred steps


def figure1_csv(traces: dict[str, Trace]) -> str:
    """Formats the numbers of the figure as CSV.

    Args:
        traces: of both networks, by name.

    Returns:
        A line of `COLUMNS` for each measurement: step, accuracies in [0, 1], percentiles of one sigmoid's input.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for moment, step in enumerate(traces[NETWORKS[0]].steps):
        numbers = [
            number
            for name in NETWORKS
            for number in (
                traces[name].accuracy[moment],
                *traces[name].percentiles[moment, :, TYPICAL],
            )
        ]
        writer.writerow((step, *(f"{number:.6g}" for number in numbers)))
    return text.getvalue()


def draw_figure1(traces: dict[str, Trace], path: Path) -> None:
    """Draws a PNG: (a) test accuracy of both networks, (b, c) percentiles of one sigmoid's input in each.

    Args:
        traces: of both networks, by name.
        path: the file to write.
    """
    figure = new_figure()
    accuracy, *inputs = figure.subplots(1, 3)
    for name, line, shade in zip(NETWORKS, LINES, SHADES, strict=True):
        trace = traces[name]
        accuracy.plot(trace.steps, trace.accuracy, line, color=shade, linewidth=1.2, label=name)
    low = min(trace.accuracy[len(trace.accuracy) // 20 :].min() for trace in traces.values())
    accuracy.set(ylim=(min(low, MIN_ACCURACY), 1), ylabel="test accuracy (fraction of images)")
    accuracy.set_title("(a) test accuracy", fontsize=10)
    inputs[1].sharey(inputs[0])
    for letter, axes, name in zip("bc", inputs, NETWORKS, strict=True):
        trace = traces[name]
        # From the top, as the lines lie.
        for number in reversed(range(len(PERCENTILES))):
            axes.plot(
                trace.steps,
                trace.percentiles[:, number, TYPICAL],
                PERCENTILE_LINES[number],
                color="0.0" if number == 1 else "0.4",
                linewidth=1.2,
                label=f"{PERCENTILES[number]}th percentile",
            )
        axes.set(ylabel="input of one sigmoid, last hidden layer")
        axes.set_title(f"({letter}) {name}", fontsize=10)
    for axes in (accuracy, *inputs):
        axes.set(xlabel="training steps")
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=5)
    accuracy.legend(loc="lower right", fontsize=8)
    lines, names = inputs[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower right", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110, format="png")
