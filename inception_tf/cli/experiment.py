# SPDX-License-Identifier: Apache-2.0
"""`inception-tf experiment`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.group("experiment")
def command():
    """Run the batch normalization paper's experiments and draw its figures.

    \b
    inception-tf experiment bn-mnist --out runs/bn-mnist
    """


@command.command("bn-mnist")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="The folder for the three files."
)
@click.option("--steps", type=int, default=50_000, show_default=True, help="Of 60 images each.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of weights and order of the images."
)
@click.option(
    "--learning-rate",
    type=float,
    default=0.3,
    show_default=True,
    help="Of gradient descent, for both networks; the paper does not say its own.",
)
@click.option(
    "--initial-deviation",
    type=float,
    default=0.1,
    show_default=True,
    help="Of the Gaussian that the weights are drawn from; the paper says small.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where TFDS has prepared MNIST.  [default: as TFDS finds it; fetched if missing]",
)
def bn_mnist(out, data_dir, **chosen):
    """Section 4.1, Figure 1: three layers of 100 sigmoids on binary MNIST, with and without BN.

    Both networks begin with the same weights and see the same images in the same order.  Writes
    figure1.png, figure1.csv and report.json; the full length takes two to four minutes on two cores.

    \b
    inception-tf experiment bn-mnist --out runs/bn-mnist
    """
    from inception_tf.experiments.sigmoids import Setting

    setting = Setting(**chosen)
    from inception_tf.experiments.bn_mnist import run

    report = run(Path(out), setting, data_dir, lambda line: click.echo(line, err=True))
    click.echo(_told(report))
    click.echo(f"figure1.png, figure1.csv and report.json are in {out}")


def _told(report: dict) -> str:
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
