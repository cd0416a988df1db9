# SPDX-License-Identifier: Apache-2.0
"""`inception-tf predict`."""

from __future__ import annotations

import json
import sys

import click

__all__ = ["command"]

USER_MISTAKE = 2


@click.command("predict")
@click.argument("path", metavar="RUN|SAVED_MODEL")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Classes named for each image.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(path, images, top, as_json):
    """Name what JPEG or PNG images show, with a run or an exported SavedModel.

    An image that cannot be read is named on stderr, the others are answered, and the exit code is 2.

    \b
    inception-tf predict saved_models/digits digit.png
    """
    from inception_tf.cli.render import table
    from inception_tf.serving.predict import predict

    answers = predict(path, images, top)
    if as_json:
        click.echo(json.dumps([answer.as_dict() for answer in answers], indent=2))
    else:
        rows = [(a.image, label, f"{score:.4f}") for a in answers for label, score in a.top]
        if rows:
            click.echo(table(("image", "label", "score"), rows))
    refused = [answer for answer in answers if not answer.top]
    for answer in refused:
        print(f"inception-tf: {answer.image}: {answer.status}", file=sys.stderr)
    return USER_MISTAKE if refused else 0
