# SPDX-License-Identifier: Apache-2.0
"""`inception-tf export`."""

from __future__ import annotations

import warnings
from pathlib import Path

import click

__all__ = ["command"]


@click.command("export")
@click.argument("path", metavar="RUN|WEIGHTS")
@click.option("--model", help="The network that a weights file belongs to.")
@click.option(
    "--labels",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Names of the classes, one a line, for weights that bring none.",
)
@click.option(
    "--to", type=click.Path(file_okay=False), help="[default: saved_models/<the run's name>]"
)
@click.option("--version", type=int, help="The version folder's number.  [default: the next one]")
@click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16", "float16")),
    default="float32",
    show_default=True,
    help="Of the weights and the feature maps; outputs are float32.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    help="Height x width of the largest image that is read.  [default: 50,000,000]",
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--warm-up",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Images of a warm-up request; give it again for more sizes.  [default: 1, 4, 8]",
)
@click.option("--no-fold", is_flag=True, help="Keep batch normalization beside the convolutions.")
def command(path, model, labels, to, no_fold, max_pixels, **settings):
    """Write RUN as a SavedModel in a numbered version folder.

    A weights file, our own or another project's, is exported with --model and --labels.

    \b
    inception-tf export runs/digits --to saved_models/digits
    """
    from inception_tf.data.labels import read_labels
    from inception_tf.errors import UserError
    from inception_tf.evaluation.members import open_member
    from inception_tf.serving.export import export
    from inception_tf.serving.record import Origin

    member = open_member(path, model)
    names = read_labels(labels) if labels else member.labels
    if names is None:
        raise UserError(
            f"{path} names no classes; give {member.classes} names, one a line, with --labels FILE"
        )
    given = {"warm_up": settings.pop("warm_up") or None, "pixel_limit": max_pixels}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        folder = export(
            member.model,
            names,
            to or Path("saved_models") / Path(path).resolve().name.partition(".")[0],
            member.view,
            fold=not no_fold,
            origin=Origin.of(path, _weights(path)),
            **settings,
            **{name: value for name, value in given.items() if value},
        )
    for warning in caught:
        click.echo(f"warning: {warning.message}", err=True)
    click.echo(f"exported {path} to {folder}")
    click.echo(f"check it: inception-tf verify {folder}")


def _weights(path: str) -> str:
    """The file that holds the weights: of a run, of a checkpoint's prefix, or the path itself."""
    from inception_tf.training.run import Run

    if Path(path).is_dir():
        return str(Run(Path(path)).model_file)
    return path if Path(path).exists() else f"{path}.index"
