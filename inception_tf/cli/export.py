# SPDX-License-Identifier: Apache-2.0
"""`inception-tf export`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("export")
@click.argument("run", type=click.Path(file_okay=False))
@click.option(
    "--to", type=click.Path(file_okay=False), help="[default: saved_models/<the run's name>]"
)
@click.option("--version", type=int, help="The version folder's number.  [default: the next one]")
@click.option("--no-fold", is_flag=True, help="Keep batch normalization beside the convolutions.")
def command(run, to, version, no_fold):
    """Write RUN as a SavedModel in a numbered version folder.

    \b
    inception-tf export runs/digits --to saved_models/digits
    """
    from inception_tf.evaluation.members import open_run
    from inception_tf.serving.export import export

    member = open_run(run)
    to = to or Path("saved_models") / Path(run).resolve().name
    folder = export(
        member.model,
        member.labels,
        to,
        size=member.view.size,
        crop=member.view.crop,
        version=version,
        fold=not no_fold,
    )
    click.echo(f"exported {run} to {folder}")
    click.echo(f"check it: inception-tf verify {folder}")
