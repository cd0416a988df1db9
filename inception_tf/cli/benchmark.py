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


@command.command("data")
@click.option("--data", default="digits", show_default=True, help="As `train` takes it.")
@click.option("--label-offset", type=click.IntRange(min=0), default=0, help="As `train` takes it.")
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--recipe", default="default", show_default=True, help="A recipe's name or a file.")
@click.option("--batch-size", type=int, help="Images a step; default: the recipe's.")
@click.option("--size", type=int, help="Height and width in pixels; default: the published size.")
@click.option("--steps", type=int, default=20, show_default=True, help="Batches that are counted.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one key of the recipe."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False),
    help="Write every figure there as JSON too.",
)
def data_(data, label_offset, model, recipe, batch_size, size, steps, settings, json_file):
    """Time the training data: where its time goes, and whether it or the network is the slower.

    \b
    inception-tf benchmark data --data folder:flowers --model inception_v3
    """
    from inception_tf.cli.render import table
    from inception_tf.data.sources import absolute
    from inception_tf.files import write_whole
    from inception_tf.timing.data import time_data
    from inception_tf.training.recipes import read_recipe

    quoted = absolute(data).replace("'", "''")
    words = [
        f"model.name={model}",
        f"data.name='{quoted}'",
        f"data.label_offset={label_offset}",
        *([f"data.batch_size={batch_size}"] if batch_size is not None else []),
        *([f"model.size={size}"] if size is not None else []),
    ]
    timing = time_data(read_recipe(recipe).override([*words, *settings]), steps)
    click.echo(
        f"{timing.data}: batch {timing.batch_size}, {timing.size}x{timing.size}, recipe {recipe}"
    )
    rows = [
        (stage, f"{timing.milliseconds[stage]:.2f}", f"{rate:.0f}")
        for stage, rate in timing.stages.items()
    ]
    click.echo(table(("stage", "ms an image", "images/s up to here"), rows))
    slow, fast = sorted((timing.data_rate, timing.step))
    other = "model" if timing.slower == "data" else "data"
    click.echo(
        f"{model}, {timing.precision}: {timing.step:.1f} images/s of training;"
        f" the {timing.slower} is the slower, the {other} {fast / slow:.1f} times as fast"
    )
    if json_file:
        write_whole(Path(json_file), json.dumps(timing.as_dict(), indent=2) + "\n")
