# SPDX-License-Identifier: Apache-2.0
"""`inception-tf experiment ensemble`."""

from __future__ import annotations

from pathlib import Path

import click

from inception_tf.cli.experiment_runs import train_with_bars
from inception_tf.cli.options import COUNT, DATA, SEED
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, OUTPUT_FOLDER

__all__ = ["ensemble"]


@click.command("ensemble")
@click.option(
    "--out", required=True, type=OUTPUT_FOLDER, help="The folder for the files and the runs."
)
@click.option("--data", type=DATA_NAME, default="tfds:cifar10", show_default=True, help=DATA)
@click.option("--members", type=COUNT, default=6, show_default=True, help="Networks to train.")
@click.option(
    "--steps",
    type=COUNT,
    help="Training steps of each member, rounded up to whole epochs.  [default: 936]",
)
@click.option("--size", type=COUNT, help="Height and width in pixels.  [default: 33]")
@click.option("--width", type=float, help="Factor on every convolution's filters.  [default: 0.25]")
@click.option(
    "--rate-factor", type=float, help="Factor on the paper's learning rate, 0.045.  [default: 1]"
)
@click.option(
    "--test-images",
    "validation_images",
    type=COUNT,
    help="Images to evaluate on, at most.  [default: 1000]",
)
@SEED
def ensemble(out, data, members, seed, **chosen):
    """Section 4.2.3, Figure 4: six networks of the recipe bn-ensemble, alone, with 144 crops, and together.

    Each member is a run of `inception-tf train` in OUT/member-N, which `evaluate` takes as well.  Six of
    them, on 10,000 images of CIFAR-10, take half an hour of one core.  Ctrl-C stops after the step and
    saves; the same command resumes there.

    \b
    inception-tf experiment ensemble --out runs/ensemble
    """
    from inception_tf.host.backend import needs_tensorflow_backend

    needs_tensorflow_backend("experiment")
    from inception_tf.data.sources.open import with_absolute_path
    from inception_tf.experiments.ensemble import DEFAULT, make_ensemble, write_figure4
    from inception_tf.experiments.short_runs import RunSettings

    given = {name: value for name, value in chosen.items() if value is not None}
    setting = RunSettings(data=with_absolute_path(data), seed=seed, **{**DEFAULT, **given})
    plan, out = make_ensemble(setting, members), Path(out)
    train_with_bars(plan.configs, out, setting, lambda: None)
    echo(_table(write_figure4(plan, out, lambda line: echo(line, err=True))))
    echo(f"figure4.png, figure4.csv and report.json are in {out}")


def _table(report: dict) -> str:
    """Figure 4: the paper's rows, then those of this run."""
    from inception_tf.cli.render import table
    from inception_tf.experiments.ensemble import PAPER

    def percent(mean, spread):
        return f"{100 * mean:.2f}%" + ("" if spread is None else f" ± {100 * spread:.2f}")

    rows = [
        ("paper", *row[:4], *("-" if error is None else f"{error:.2f}%" for error in row[4:]))
        for row in PAPER
    ]
    size = report["setting"]["size"]
    for row in report["errors"]:
        if row["models"] in (1, report["members"] - len(report["diverged"])):
            errors = (percent(row[f"top{k}_error"], row[f"top{k}_spread"]) for k in (1, 5))
            name = "member, mean ± spread" if row["models"] == 1 else "ensemble"
            rows.append(("here", name, size, row["crops"], row["models"], *errors))
    heads = ("of", "model", "resolution", "crops", "models", "top-1 error", "top-5 error")
    return table(heads, rows)
