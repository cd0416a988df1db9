# SPDX-License-Identifier: Apache-2.0
"""`inception-tf data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inception_tf.cli.options import SETTINGS, as_settings, source_options
from inception_tf.cli.paths import OUTPUT_FILE

if TYPE_CHECKING:
    from inception_tf.data.sources.splits import Source

__all__ = ["command"]

MAX_LABELS = 10  # label names that are printed


@click.command("data")
@click.argument("data")
@click.option(
    "--preview",
    type=OUTPUT_FILE,
    metavar="FILE.png",
    help="Draw the images as the network sees them, training and evaluation side by side.",
)
@source_options()
@click.option("--split", help="The split to draw.  [default: train]")
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Height and width in pixels.  [default: the recipe's]",
)
@click.option("--recipe", default="default", show_default=True, help="A recipe's name or a file.")
@SETTINGS
def command(data, reading, preview, split, size, recipe, settings):
    """Describe DATA: its splits, images and classes; or draw it as a recipe preprocesses it.

    \b
    inception-tf data digits
    inception-tf data digits --recipe digits --preview digits.png
    """
    from inception_tf.data.sources.open import open_source
    from inception_tf.training.recipes import read_recipe

    config = read_recipe(recipe).override(
        [
            *settings,
            *as_settings(reading),
            *([f"model.size={size}"] if size is not None else []),
        ]
    )
    source = open_source(data, **config.data.reading())
    if not preview:
        if split:
            source.split(split)  # an unknown split is an error even without a preview
        click.echo(_description(source))
        return
    from inception_tf.data.preview import draw_preview, make_preview
    from inception_tf.models import find_network

    part = split or ("train" if "train" in source.splits else "all")
    pixels = config.model.size or find_network(config.model.name).size
    shown = make_preview(
        source.split(part), source.labels, config.data, size=pixels, seed=config.training.seed
    )
    draw_preview(
        shown, Path(preview), f"{data}, split {part}, recipe {recipe}, {pixels}x{pixels} pixels"
    )
    click.echo(
        f"{len(shown.labels)} images of {data}, each as the network sees it in training and evaluation: {preview}"
    )


def _description(source: Source) -> str:
    from inception_tf.cli.render import table

    images = sum(map(len, source.splits.values()))
    rows = [(name, f"{len(split):,}") for name, split in source.splits.items()]
    more = ", ..." if len(source.labels) > MAX_LABELS else ""
    numbers = "" if source.named else " (not all of them have names in the data)"
    return (
        f"{source.name}: {images:,} images of {len(source.labels)} classes\n"
        f"{table(('split', 'images'), rows)}\n"
        f"labels{numbers}: {', '.join(source.labels[:MAX_LABELS])}{more}"
    )
