# SPDX-License-Identifier: Apache-2.0
"""`inception-tf convert`."""

from __future__ import annotations

import click

from inception_tf.cli.paths import OUTPUT_FILE, InputPath
from inception_tf.errors import UserError

__all__ = ["command"]

TARGETS = ("keras", "slim", "timm", "torchvision")
SOURCES = ("slim", "keras", "torchvision", "timm", "bvlc")


@click.command("convert")
@click.argument("source_file", metavar="SRC", type=InputPath("a run folder or a weights file"))
@click.argument("target", metavar="DST", type=OUTPUT_FILE)
@click.option("--model", help="The network, as inception-tf models lists it; not for a run folder.")
@click.option("--source", type=click.Choice(SOURCES), help="The project that SRC is from.")
@click.option(
    "--to",
    type=click.Choice(TARGETS),
    help="Write the weights of SRC, a run folder or a weights file, as this project's package loads them.",
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
def command(source_file, target, model, source, release, to, **chosen):
    """Convert the weights SRC of another project for this one, or with --to for another one, completely or not at all.

    \b
    inception-tf convert --to timm runs/photos inception_v4.safetensors
    inception-tf convert --model inception_v3 --source slim inception_v3.ckpt inception_v3.weights.h5
    """
    if to:
        _write(source_file, target, model, source, release, to, chosen)
        return
    for option, value in (("--model", model), ("--source", source)):
        if value is None:
            raise UserError(f"convert needs {option} of SRC, or --to with a run folder")
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


def _write(source_file, target, model, source, release, to, chosen):
    """Write for another project what the options name."""
    from inception_tf.classifiers import open_weights
    from inception_tf.weights.foreign import write_foreign

    given = [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value]
    given += ["--release"] if release else []
    if given:
        raise UserError(f"{' and '.join(given)} cannot be combined with --to; convert SRC first")
    name, switches, network = open_weights(source_file, model, source)
    done = write_foreign(network, name, switches, to, target)
    click.echo(done)
    click.echo(f"wrote {target}")
    click.echo(f"use it: {done.use}")
