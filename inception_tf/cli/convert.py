# SPDX-License-Identifier: Apache-2.0
"""`inception-tf convert`."""

from __future__ import annotations

import click

from inception_tf.cli.paths import OUTPUT_FILE, InputPath

__all__ = ["command"]

SOURCES = ("slim", "keras", "torchvision", "timm", "bvlc")


@click.command("convert")
@click.argument("source_file", metavar="SRC", type=InputPath("a weights file"))
@click.argument("target", metavar="DST.weights.h5", type=OUTPUT_FILE)
@click.option("--model", required=True, help="The network, as inception-tf models lists it.")
@click.option(
    "--source", required=True, type=click.Choice(SOURCES), help="The project that SRC is from."
)
@click.option(
    "--classes",
    type=click.IntRange(min=1),
    help="Classes that SRC must have.  [default: any number]",
)
@click.option(
    "--drop-background",
    is_flag=True,
    help="Drop the first class, such as the background of slim's 1,001.",
)
@click.option("--skip-head", is_flag=True, help="Convert the backbone only, without classifiers.")
@click.option("--ema", is_flag=True, help="Use the moving averages of a slim checkpoint.")
@click.option(
    "--release",
    help="The release that SRC is, for its preprocessing.  [default: by SRC's name, else the usual one]",
)
def command(source_file, target, model, source, release, **chosen):
    """Convert the weights SRC of another project for this one, completely or not at all.

    \b
    inception-tf convert --model inception_v3 --source slim inception_v3.ckpt inception_v3.weights.h5
    """
    from inception_tf.weights.convert import convert
    from inception_tf.weights.registry import find_release

    row = find_release(model, release) if release else None
    done = convert(model, source, source_file, release=row, **chosen)
    done.save(target)
    arguments = [repr(model), *(f"{key}={value!r}" for key, value in done.arguments.items())]
    click.echo(done.report)
    click.echo(f"wrote {target}")
    click.echo(f"images: {done.preprocessing} ({done.why})")
    click.echo(
        f"use it: inception_tf.create_model({', '.join(arguments)}, weights={str(target)!r})"
    )
