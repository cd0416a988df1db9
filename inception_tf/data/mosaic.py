# SPDX-License-Identifier: Apache-2.0
"""A picture of many images with a few words above each: training batches, answers, mistakes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inception_tf.data import pipeline
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Tile", "answer_tile", "draw_mosaic", "read_pixels"]

PER_ROW = 6
# Inches: a tile, a line of text, between tiles, between a tile and its text, the title.
SIDE, LINE, GAP, ABOVE, TOP = 2.0, 0.17, 0.12, 4 / 72, 0.5
LONGEST = 30  # characters of a line
MOST_LINES = 6  # of a text, such as the many classes of a multi-label image; the rest is cut off


@dataclass(frozen=True)
class Tile:
    """An image and what stands above it."""

    pixels: np.ndarray  # (H, W, 3) in [0, 1]
    lines: tuple[str, ...]
    is_marked: bool = False  # with a frame and a cross, as wrong


def answer_tile(
    pixels: np.ndarray,
    true: Sequence[str],
    predicted: Sequence[tuple[str, float]],
    *more: str,
) -> Tile:
    """Makes the tile of an image that a network classified; one whose classes are not the true ones is marked.

    Args:
        pixels: (H, W, 3) in [0, 1].
        true: The names of its classes.
        predicted: The names that the network gives, with their scores.
        more: Further lines.

    Returns:
        The tile.
    """
    found = ", ".join(f"{name} {score:.0%}" for name, score in predicted) or "none"
    is_wrong = {name for name, _ in predicted} != set(true)
    return Tile(pixels, (f"true {', '.join(true) or 'none'}", f"answer {found}", *more), is_wrong)


def draw_mosaic(tiles: Sequence[Tile], path: Path, title: str, what: str) -> None:
    """Draws images in rows of six as a PNG.

    Args:
        tiles: The images; with none, the picture has its title alone.
        path: The file to write.
        title: Its heading.
        what: The feature that needs it, for the error.

    Raises:
        UserError: matplotlib is not installed.
    """
    texts = [_wrapped(tile) for tile in tiles]
    lines = max(map(len, texts), default=0)
    rows = max(1, -(-len(tiles) // PER_ROW))
    height = SIDE + LINE * lines + GAP
    width, total = PER_ROW * (SIDE + GAP) + GAP, TOP + rows * height
    figure = new_figure(what, width, total)
    # Places are known, and finding them would take most of the time; so would axes for each image.
    figure.set_layout_engine("none")
    figure.suptitle(title, y=1 - TOP / 2 / total, va="center", parse_math=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for number, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
        row, column = divmod(number, PER_ROW)
        left = GAP + column * (SIDE + GAP)
        _draw_tile(axes, tile, text, left, total - TOP - (row + 1) * height + GAP)
    axes.set(xlim=(0, width), ylim=(0, total))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def read_pixels(
    split: Split, indices: np.ndarray, preprocessing: Preprocessing
) -> dict[int, np.ndarray]:
    """Reads some images as a network sees them, whatever its scale.

    Args:
        split: The images.
        indices: (M,) which of them.
        preprocessing: How they are cut and resized.

    Returns:
        index → (size, size, 3) in [0, 1], of those that can be read, in order.
    """
    if not len(indices):
        return {}
    shown = replace(split.take(indices), bits=preprocessing.bits)
    steps = transforms.evaluation_steps(replace(preprocessing, scale="unit"))
    batches = pipeline.evaluation_batches(
        shown, steps, batch_size=len(indices), bad=BadImages(shown, 1.0)
    )
    return {
        int(indices[place]): (image + 1) / 2
        for pixels, places in batches
        for image, place in zip(pixels.numpy(), places.numpy(), strict=True)
    }


def _draw_tile(axes: Axes, tile: Tile, text: list[str], left: float, low: float) -> None:
    """Draws a tile in the square whose lower left corner is at these inches, and its text above the image."""
    high, wide = (SIDE * side / max(tile.pixels.shape[:2]) for side in tile.pixels.shape[:2])
    left, low = left + (SIDE - wide) / 2, low + (SIDE - high) / 2
    right, top = left + wide, low + high
    pixels = np.clip(tile.pixels, 0, 1)
    axes.imshow(pixels, interpolation="nearest", extent=(left, right, low, top))
    if tile.is_marked:
        corners = [left, right, right, left, left], [low, low, top, top, low]
        axes.plot(
            *corners,
            linewidth=4,
            color="tab:red",
            solid_joinstyle="miter",
            solid_capstyle="projecting",
        )
    axes.text(
        left + wide / 2,
        top + ABOVE,
        ("\u2717 " if tile.is_marked else "") + "\n".join(text),
        fontsize=8,
        weight="bold" if tile.is_marked else "normal",
        horizontalalignment="center",
        parse_math=False,
    )


def _wrapped(tile: Tile) -> list[str]:
    """The lines of a tile's words: each text of it over as many as it needs, but at most `MOST_LINES`."""
    return [
        line
        for text in tile.lines
        for line in textwrap.wrap(text, LONGEST, max_lines=MOST_LINES, placeholder=" ...") or [""]
    ]
