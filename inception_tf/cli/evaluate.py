# SPDX-License-Identifier: Apache-2.0
"""`inception-tf evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]


@click.command("evaluate")
@click.argument("paths", nargs=-1, required=True, metavar="RUN|WEIGHTS...")
@click.option("--model", help="The network that weights files belong to.")
@click.option("--data", help="digits, or folder:PATH.  [default: the first run's data]")
@click.option("--split", help="train, validation or test.  [default: validation, or test]")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Images at a time.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False),
    help="Write the result there as JSON too.",
)
def command(paths, model, data, split, batch_size, json_file):
    """Measure top-1 and top-5 accuracy; several runs are an ensemble, their probabilities averaged.

    \b
    inception-tf evaluate runs/digits --data digits
    """
    from inception_tf.data.sources import open_source
    from inception_tf.evaluation.members import open_member
    from inception_tf.evaluation.scores import scores
    from inception_tf.files import write_whole
    from inception_tf.training.run import Run

    source = open_source(data or Run(Path(paths[0])).config().data.name)
    chosen = source.split(split)
    members = [open_member(path, model=model, labels=source.labels) for path in paths]
    result = dict(scores(members, chosen, source.labels, batch_size))
    for name in ("top1", "top5"):
        click.echo(f"{name}: {result[name]:.2%} accuracy, {1 - result[name]:.2%} error")
    click.echo(f"images: {result['images']}, skipped: {result['skipped']}")
    if json_file:
        write_whole(Path(json_file), json.dumps(result, indent=2) + "\n")
