# SPDX-License-Identifier: Apache-2.0
"""Plots: matplotlib without a window, and what the curves of a run show."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inception_tf import UserError
from inception_tf.experiments.variant_figure import STYLES
from inception_tf.host.plotting import new_figure
from inception_tf.training import curves


def test_a_figure_leaves_pyplot_alone():
    program = (
        "import sys; from inception_tf.host.plotting import new_figure;"
        "assert new_figure('a test', 3, 2).get_size_inches().tolist() == [3, 2];"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_matplotlib_the_option_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        UserError, match=r"^--plot needs matplotlib: pip install 'inception_tf\[train\]'$"
    ):
        new_figure("--plot", 3, 2)


def test_the_curves_have_whole_epochs_the_learning_rate_and_a_mark_at_the_best(
    tmp_path, monkeypatch
):
    kept = []

    def figure():
        kept.append(new_figure("a test", 12, 3.6))
        return kept[0]

    monkeypatch.setattr(curves, "new_figure", figure)
    rows = [
        {
            "epoch": e,
            "loss": 1 / e,
            "top1": 0.5,
            "val_loss": 1 / e,
            "val_top1": top,
            "learning_rate": r,
        }
        for e, top, r in ((1, 0.2, 0.1), (2, 0.9, 0.05), (3, 0.8, 0.01))
    ]
    curves.draw_curves(rows, tmp_path / "curves.png", "a run")
    losses, accuracies, rates = kept[0].axes
    for axes in (losses, accuracies, rates):
        low, high = axes.get_xlim()
        assert all(float(t).is_integer() for t in axes.get_xticks() if low <= t <= high)
    assert list(rates.lines[0].get_ydata()) == [0.1, 0.05, 0.01]
    (mark,) = (line for line in accuracies.lines if line.get_marker() == "*")
    assert (list(mark.get_xdata()), mark.get_label()) == ([2], "best: 90.00%, epoch 2")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_every_variant_has_a_color_of_its_own():
    colors = [style["color"] for style in STYLES.values()]
    assert len(colors) == len(set(colors))
