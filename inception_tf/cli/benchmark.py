# SPDX-License-Identifier: Apache-2.0
"""`inception-tf benchmark`."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]

PRECISIONS = {
    "auto": "auto",
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


@click.group("benchmark")
def command():
    """Time networks on this machine.

    \b
    inception-tf benchmark forward --model inception_v3 --batch-size 32
    """


@command.command("forward")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("inception_v3",),
    show_default=True,
    help="May be repeated.",
)
@click.option("--batch-size", type=int, default=32, show_default=True, help="Images a step.")
@click.option("--size", type=int, help="Height and width in pixels; default: the published size.")
@click.option(
    "--steps",
    type=int,
    default=100,
    show_default=True,
    help="Steps that are counted; ten more come before.",
)
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="auto", show_default=True)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False),
    help="Write every figure there as JSON too.",
)
def forward(models, batch_size, size, steps, precision, json_file):
    """Time the forward pass: one line for every tenth step, then mean and standard deviation.

    A step ends when the probabilities of the whole batch lie in memory.

    \b
    inception-tf benchmark forward --model inception_v1 --model inception_v3 --json times.json
    """
    from inception_tf.files import write_whole
    from inception_tf.timing.forward import time_forward

    timings = []
    for model in models:
        timing = time_forward(
            model,
            batch_size=batch_size,
            size=size,
            steps=steps,
            precision=PRECISIONS[precision],
            tell=click.echo,
        )
        timings.append(timing.as_dict())
        if json_file:
            write_whole(Path(json_file), json.dumps(timings, indent=2) + "\n")
