# SPDX-License-Identifier: Apache-2.0
"""`inception-tf convert`."""

from __future__ import annotations

import click

from inception_tf.cli.output import echo
from inception_tf.cli.paths import OUTPUT_FILE, InputPath
from inception_tf.errors import UserError, unknown

__all__ = ["command"]

TARGETS = ("keras", "slim", "timm", "torchvision")
SOURCES = ("slim", "keras", "torchvision", "timm", "bvlc", "graph")


@click.command("convert")
@click.argument("source_file", metavar="SRC", type=InputPath("a run folder or a weights file"))
@click.argument("target", metavar="DST", type=OUTPUT_FILE)
@click.option(
    "--model",
    help="The network, as inception-tf models lists it.  [default: as SRC says, if it is this project's, or a run folder]",
)
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="The project that SRC is from.  [default: by the form of SRC]",
)
@click.option(
    "--to",
    type=click.Choice(TARGETS),
    help="Write the weights of SRC, a run folder or a weights file, as this project's package loads them.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="SWITCH=VALUE",
    help="A switch of the network that SRC does not show, as in last_pool=max; may be repeated.",
)
@click.option(
    "--scale",
    help="The range of the pixels that SRC was trained with: unit (-1 to 1), zero_to_one, ...  [default: its release's]",
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
def command(source_file, target, model, source, release, to, settings, scale, **chosen):
    """Convert the weights SRC of another project for this one, or with --to for another one, completely or not at all.

    Where SRC fits several variants of a network, the command names them, and --set takes one.

    \b
    inception-tf convert --model inception_v3 inception_v3.ckpt inception_v3.weights.h5
    inception-tf convert --model inception_v3 classify_image_graph_def.pb fid.weights.h5
    inception-tf convert --to timm runs/photos inception_v4.safetensors
    """
    if to:
        others = {"release": release, "set": settings, "scale": scale} | chosen
        _write(source_file, target, model, source, to, others)
        return
    from inception_tf.weights.convert import convert
    from inception_tf.weights.detect import check_weights_path, detect_source
    from inception_tf.weights.recognize import recognize_file
    from inception_tf.weights.registry import find_release
    from inception_tf.weights.sources import NATIVE, SOURCES

    check_weights_path(source_file)
    source = source or detect_source(source_file, SOURCES)
    if model is None:
        if source != NATIVE:
            raise UserError(
                f"'{source_file}' is a file of another project; say with --model which network it belongs to"
            )
        model, _ = recognize_file(source_file)
    row = find_release(model, release) if release else None
    done = convert(
        model,
        source,
        source_file,
        release=row,
        switches=_switches(model, settings),
        scale=scale,
        **chosen,
    )
    done.save(target)
    arguments = [repr(model), *(f"{key}={value!r}" for key, value in done.arguments.items())]
    echo(done.report)
    echo(f"wrote {target}")
    echo(f"images: {done.preprocessing} ({done.why})")
    echo(f"use it: inception_tf.create_model({', '.join(arguments)}, weights={str(target)!r})")


def _write(source_file, target, model, source, to, chosen):
    """Write for another project what the options name."""
    from inception_tf.classifiers import open_weights
    from inception_tf.weights.foreign import write_foreign

    given = [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value]
    if given:
        raise UserError(f"{' and '.join(given)} cannot be combined with --to; convert SRC first")
    name, switches, network = open_weights(source_file, model, source)
    done = write_foreign(network, name, switches, to, target)
    echo(done)
    echo(f"wrote {target}")
    echo(f"use it: {done.use}")


def _switches(model, settings):
    """The switches that are given as SWITCH=VALUE, with values of the type that each has."""
    import yaml

    from inception_tf.models import switches, variant, wrong_switch

    known, found = switches(model), {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set must be SWITCH=VALUE such as last_pool=max, got '{setting}'")
        if name not in known:
            raise unknown(f"switch of {model}", name, known or ["none"])
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None  # refused below
        example = wrong_switch(model, name, value)
        if example is not None:
            raise UserError(
                f"--set {name} must be a value such as {str(example).lower()}, got '{text}'"
            )
        found[name] = value
    variant(model, **found)
    return found
