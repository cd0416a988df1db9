# SPDX-License-Identifier: Apache-2.0
"""`inception-tf data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inception_tf.cli.options import SETTINGS, as_settings, source_options
from inception_tf.cli.output import echo
from inception_tf.cli.paths import OUTPUT_FILE

if TYPE_CHECKING:
    from inception_tf.data.duplicates import EqualImages
    from inception_tf.data.sources.splits import Source

__all__ = ["command"]

MOST_COMPARED = 20_000  # files of equal sizes that are opened without --check
MAX_LABELS = 10  # label names that are printed


@click.command("data")
@click.argument("data")
@click.option(
    "--preview",
    type=OUTPUT_FILE,
    metavar="FILE.png",
    help="Draw the images as the network sees them, training and evaluation side by side.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Decode every image, and list those that cannot be read and those that are in two splits.",
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
def command(data, reading, preview, check, split, size, recipe, settings):
    """Describe DATA: its splits, images and classes; or draw it as a recipe preprocesses it.

    \b
    inception-tf data digits
    inception-tf data digits --recipe digits --preview digits.png
    """
    from inception_tf.data.depth import depth_warning
    from inception_tf.data.duplicates import duplicates_warning, equal_images
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
    equal = [] if source.problem else equal_images(source, None if check else MOST_COMPARED)
    if not preview:
        depth = [depth_warning(images) for images in source.splits.values()]
        echo(_description(source, duplicates_warning(equal), *dict.fromkeys(depth)))
    if source.problem:
        raise UserError(source.problem)
    if check:
        echo(_checked(source, equal or []))
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
    echo(
        f"{len(shown.labels)} images of {data}, each as the network sees it in training and evaluation: {preview}"
    )


def _description(source: Source, *more_warnings: str | None) -> str:
    """Images by split, files that are not read by reason, warnings, and images by class."""
    from inception_tf.cli.render import table
    from inception_tf.errors import printable

    images = sum(map(len, source.splits.values()))
    rows = [(name, f"{len(split):,}") for name, split in source.splits.items()]
    more = ", ..." if len(source.labels) > MAX_LABELS else ""
    numbers = "" if source.named else " (not all of them have names in the data)"
    parts = [
        f"{source.name}: {images:,} images of {len(source.labels)} classes\n"
        f"{table(('split', 'images'), rows)}"
    ]
    if source.unread:
        parts.append(table(("not read", "files", "such as"), _reasons(source.unread)))
    warnings = [warning for warning in (*source.warnings, *more_warnings) if warning]
    if warnings:
        parts.append("\n".join(f"warning: {warning}" for warning in warnings))
    if source.labels:
        counts = [split.class_counts(len(source.labels)) for split in source.splits.values()]
        classes = zip(map(printable, source.labels), *counts, strict=True)
        by_class = [(index, *row) for index, row in enumerate(classes)]
        parts.append(table(("class", "name", *source.splits), by_class))
    parts.append(f"labels{numbers}: {', '.join(source.labels[:MAX_LABELS])}{more}")
    return "\n\n".join(parts)


def _checked(source: Source, equal: list[EqualImages]) -> str:
    """Every image that cannot be read, by split, and every one that is in training and evaluation."""
    import numpy as np

    from inception_tf.cli.render import table
    from inception_tf.data import pipeline
    from inception_tf.data.decoding.transforms import Resize
    from inception_tf.data.skipped import BadImages
    from inception_tf.host.progress import progress_bar

    rows = []
    readable = 0
    by_class = np.zeros((2, len(source.labels)), np.int64)  # images, and those that can be read
    for name, split in source.splits.items():
        bad = BadImages(split, limit=1.0)
        with progress_bar(len(split), name, leave=False) as bar:
            batches = pipeline.evaluation_batches(split, (Resize(8),), batch_size=32, bad=bad)
            try:
                for _, index in batches:
                    bar.update(len(index))
                    readable += len(index)
                    by_class[1] += split.take(index.numpy()).class_counts(len(source.labels))
            except Exception as error:
                failure = bad.failure()
                if failure:
                    raise failure from error
                raise
        by_class[0] += split.class_counts(len(source.labels))
        rows += [(name, image, reason) for image, reason in sorted(bad.reasons.items())]
    parts = [f"decoded: {readable:,} images, {len(rows):,} cannot be read"]
    lost = np.flatnonzero((by_class[0] > 0) & (by_class[1] == 0))
    if len(lost):
        names = ", ".join(f"'{source.labels[index]}'" for index in lost)
        parts.append(f"warning: classes of which no image can be read: {names}")
    if rows:
        parts.append(table(("split", "cannot be read", "reason"), rows))
    if equal:
        pairs = [(one.split, one.image, one.train) for one in equal]
        parts.append(table(("split", "image", "the same in train"), pairs))
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
