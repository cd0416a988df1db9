# SPDX-License-Identifier: Apache-2.0
"""`inception-tf data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    from inception_tf.data.sources.open import inspect_source
    from inception_tf.errors import UserError
    from inception_tf.training.recipes import read_recipe

    config = read_recipe(recipe).override(
        [
            *settings,
            *as_settings(reading),
            *([f"model.size={size}"] if size is not None else []),
        ]
    )
    source = inspect_source(data, **config.data.reading())
    if split and not source.problem:
        source.split(split)  # an unknown split is an error even without a preview
    if not preview:
        click.echo(_description(source))
    if source.problem:
        raise UserError(source.problem)
    if not preview:
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
    """Images by split, files that are not read by reason, warnings, and images by class."""
    import numpy as np

    from inception_tf.cli.render import table
    from inception_tf.errors import printable

    images = sum(map(len, source.splits.values()))
    rows = [(name, f"{len(split):,}") for name, split in source.splits.items()]
    more = ", ..." if len(source.labels) > MAX_LABELS else ""
    numbers = "" if source.named else " (not all of them have names in the data)"
    parts = [
        f"{source.name}: {images:,} images of {len(source.labels)} classes\n"
        f"{table(('split', 'images'), rows)}\n"
        f"labels{numbers}: {', '.join(source.labels[:MAX_LABELS])}{more}"
    ]
    if source.unread:
        parts.append(table(("not read", "files", "such as"), _reasons(source.unread)))
    if source.warnings:
        parts.append("\n".join(f"warning: {warning}" for warning in source.warnings))
    if source.labels:
        counts = [
            np.bincount(s.classes, minlength=len(source.labels)) for s in source.splits.values()
        ]
        classes = zip(map(printable, source.labels), *counts, strict=True)
        by_class = [(index, *row) for index, row in enumerate(classes)]
        parts.append(table(("class", "name", *source.splits), by_class))
    return "\n\n".join(parts)


def _reasons(unread: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Reason, number of files and the first of them, the most frequent reason first."""
    from inception_tf.errors import printable

    first: dict[str, str] = {}
    for path, reason in sorted(unread.items()):
        first.setdefault(reason, path)
    counts = Counter(unread.values())
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(reason, count, printable(first[reason])) for reason, count in ordered]
