# SPDX-License-Identifier: Apache-2.0
"""`inception-tf experiment`."""

from __future__ import annotations

from pathlib import Path

import click

from inception_tf.cli.ensemble import ensemble
from inception_tf.cli.experiment_runs import train_with_bars
from inception_tf.cli.options import DATA, SEED
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, OUTPUT_FOLDER
from inception_tf.cli.studies import add_studies

__all__ = ["command"]


@click.group("experiment")
def command() -> None:
    """Run the batch normalization paper's experiments and draw its figures.

    \b
    inception-tf experiment bn-mnist --out runs/bn-mnist
    inception-tf experiment bn-variants --out runs/bn-variants --quick
    """


add_studies(command)
command.add_command(ensemble)


@command.command("bn-mnist")
@click.option("--out", required=True, type=OUTPUT_FOLDER, help="The folder for the three files.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Training steps of 60 images each.",
)
@SEED
@click.option(
    "--learning-rate",
    type=float,
    default=0.3,
    show_default=True,
    help="Learning rate of both networks; the paper does not give one.",
)
@click.option(
    "--initial-deviation",
    type=float,
    default=0.1,
    show_default=True,
    help="Standard deviation of the Gaussian initialization; the paper only says small.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where TFDS has MNIST.  [default: TFDS' own folder; downloaded if missing]",
)
def bn_mnist(out, data_dir, **chosen):
    """Section 4.1, Figure 1: three layers of 100 sigmoids on binary MNIST, with and without BN.

    Both networks start from the same weights and see the same images in the same order.  Writes
    figure1.png, figure1.csv and report.json; the full length takes two to four minutes on two cores.

    \b
    inception-tf experiment bn-mnist --out runs/bn-mnist
    """
    from inception_tf.host.backend import needs_tensorflow_backend

    needs_tensorflow_backend("experiment")
    from inception_tf.experiments.sigmoids import MnistSettings

    setting = MnistSettings(**chosen)
    from inception_tf.experiments.bn_mnist import run_bn_mnist

    report = run_bn_mnist(Path(out), setting, data_dir, lambda line: echo(line, err=True))
    echo(_bn_mnist_summary(report))
    echo(f"figure1.png, figure1.csv and report.json are in {out}")


def _bn_mnist_summary(report: dict) -> str:
    """The figures of both networks as a table, then which of the paper's three findings hold."""
    from inception_tf.cli.render import table

    networks = report["networks"]
    levels = next(iter(networks.values()))["steps_to_accuracy"]
    rows = [
        (
            name,
            *(f"{figures[key]:.2%}" for key in ("final_accuracy", "best_accuracy")),
            *(
                f"{steps:,}" if steps is not None else "never"
                for steps in figures["steps_to_accuracy"].values()
            ),
            f"{figures['drift']:.1f}",
        )
        for name, figures in networks.items()
    ]
    heads = (
        "network",
        "final",
        "best",
        *(f"steps to {float(level):.0%}" for level in levels),
        "drift",
    )
    holds = [
        f"{'yes' if so else 'NO':3}  with BN it {what.replace('_', ' ')}"
        for what, so in report["with_bn"].items()
    ]
    return "\n".join((table(heads, rows), *holds))


VARIANT_NAMES = (
    *("inception", "bn-baseline", "bn-x5", "bn-x30", "bn-x5-sigmoid"),
    *("inception-x5", "inception-sigmoid"),
)


@command.command("bn-variants")
@click.option(
    "--out",
    required=True,
    type=OUTPUT_FOLDER,
    help="The folder for figures, report and a run folder for each variant.",
)
@click.option(
    "--data",
    type=DATA_NAME,
    default="tfds:cifar10",
    show_default=True,
    help=DATA,
)
@click.option(
    "--quick", is_flag=True, help="A small network and few steps: minutes instead of overnight."
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Training steps of each variant, rounded up to whole epochs.  [default: 15000, quick 900]",
)
@click.option("--size", type=int, help="Height and width in pixels.  [default: 64, quick 48]")
@click.option(
    "--width", type=float, help="Factor on every convolution's filters.  [default: 1, quick 0.25]"
)
@click.option(
    "--rate-factor", type=float, help="Factor on every learning rate of the paper.  [default: 1.5]"
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    help="Steps between two measurements of accuracy.  [default: 500, quick 78]",
)
@click.option(
    "--initial-deviation",
    type=float,
    help="Standard deviation of Gaussian initial weights, as 0.02.  [default: by He et al. 2015]",
)
@SEED
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(VARIANT_NAMES),
    help="Train this variant only; may be repeated.  [default: all]",
)
def bn_variants(out, data, quick, only, seed, **chosen):
    """Section 4.2, Figures 2 and 3: Inception and its batch-normalized variants on one set of images.

    Each variant is a run of `inception-tf train` in OUT/VARIANT; figures and report are rewritten
    whenever one has finished.  Ctrl-C stops after the step and saves; the same command resumes
    there, and skips finished variants.

    \b
    inception-tf experiment bn-variants --out runs/bn-variants --quick
    """
    from inception_tf.host.backend import needs_tensorflow_backend

    needs_tensorflow_backend("experiment")
    from inception_tf.data.sources.open import with_absolute_path
    from inception_tf.experiments.bn_variants import FULL, QUICK, make_design
    from inception_tf.experiments.short_runs import RunSettings
    from inception_tf.experiments.variant_report import write_report

    given = {name: value for name, value in chosen.items() if value is not None}
    setting = RunSettings(
        data=with_absolute_path(data), seed=seed, **{**(QUICK if quick else FULL), **given}
    )
    plan, out = make_design(setting), Path(out)
    wanted = {name: c for name, c in plan.configs.items() if not only or name in only}
    train_with_bars(wanted, out, setting, lambda: write_report(plan, out))
    echo(_variants_summary(write_report(plan, out)))
    echo(f"figure2.png, figure2.csv, figure3.csv and report.json are in {out}")


def _variants_summary(report: dict) -> str:
    """Figure 3 as a table, each variant's numbers beside the paper's."""
    from inception_tf.cli.render import table

    heads = (
        *("variant", "learning rate", "steps to baseline's best", "x fewer", "best", "outcome"),
        *("paper: steps", "x fewer", "best"),
    )
    return table(heads, [_cells(row) for row in report["figure3"]])


def _cells(row: dict) -> tuple[str, ...]:
    def shown(value, form):
        return "-" if value is None else form.format(value)

    return (
        row["variant"],
        f"{row['learning_rate']:g}",
        shown(row["steps_to_baseline_best"], "{:,}"),
        shown(row["times_fewer_steps"], "{:.1f}"),
        shown(row["best_accuracy"], "{:.1%}"),
        row["outcome"],
        row["paper_says"] or shown(row["paper_steps"], "{:,.0f}"),
        shown(row["paper_times_fewer_steps"], "{:.1f}"),
        shown(row["paper_best_accuracy"], "{:.1%}"),
    )
