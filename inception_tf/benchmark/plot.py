# SPDX-License-Identifier: Apache-2.0
"""Timings as a plot: a bar for each median, with a whisker to the 90th percentile; hatched where suspect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

__all__ = ["plot"]

INCHES = 0.42  # of height for each bar


def plot(timings: Sequence[dict], path: str | Path) -> None:
    """Draws timings as a PNG, in their order from the top.

    Args:
        timings: from `Timing.as_dict()`.
        path: the file to write.
    """
    labels = [
        f"{t['model']}, {t['what'].lower()}\n{t['precision']}, batch {t['batch_size']}, {t['size']} px"
        for t in timings
    ]
    medians = [t["median"] for t in timings]
    late = [t["p90"] - t["median"] for t in timings]
    places = range(len(timings))
    figure = new_figure("--plot", 8, 1.4 + INCHES * len(timings))
    axes = figure.add_subplot()
    bars = axes.barh(
        places, medians, xerr=[[0] * len(late), late], color="0.65", ecolor="0.2", capsize=3
    )
    for place, bar, timing in zip(places, bars, timings, strict=True):
        label = f"{timing['images_per_second']:.1f} images/s"
        if timing["suspect"]:
            bar.set(hatch="///", facecolor="white", edgecolor="0.4")
            label = f"suspect: {label}"
        axes.text(timing["p90"], place, f"  {label}", va="center")
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(t["p90"] for t in timings))
    axes.set_xlabel("seconds per batch: median, and 90th percentile")
    axes.set_title(f"{timings[0]['device']}, {timings[0]['backend']}", fontsize=9)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
