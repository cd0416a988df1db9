# SPDX-License-Identifier: Apache-2.0
"""A picture of test images with the training images that are most similar to them in a network's features.

    python examples/neighbors.py flowers12 v3.weights.h5 neighbors.png --endpoint Mixed_6e

A frame is green where the neighbor is of the same class, else red.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from folder_features import Images, arguments, features_of, one_sentence, open_both, some_of_each
from PIL import Image, ImageOps

from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure

SHOWN = 160  # pixels of a picture's sides


@click.command(help=__doc__.partition("\n")[0])
@arguments
@click.argument("picture", type=click.Path(dir_okay=False))
@click.option("--rows", default=6, show_default=True, type=click.IntRange(min=1))
@click.option("--neighbors", default=5, show_default=True, type=click.IntRange(min=1))
@one_sentence()
def main(folder, weights, model, endpoint, per_class, picture, rows, neighbors):
    source, network = open_both(folder, weights, model)
    splits = some_of_each(source.split("train"), per_class), some_of_each(source.split(), 1)
    known, asked = features_of(network, splits, endpoint)
    if len(asked.paths) > rows:  # of classes that are spread over all of them
        chosen = np.linspace(0, len(asked.paths) - 1, rows).round().astype(int)
        paths = tuple(asked.paths[i] for i in chosen)
        asked = Images(paths, asked.features[chosen], asked.classes[chosen])
    nearest, similarity = most_similar(known, asked, neighbors)
    draw(Path(picture), known, asked, nearest, similarity, source.labels)
    same = np.mean(known.classes[nearest] == asked.classes[:, np.newaxis])
    print(f"{same:.0%} of the neighbors are of the same class: {picture}")


def most_similar(known: Images, asked: Images, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices (M, count) of the known images with the smallest angles to each, nearest first, and the cosines."""
    left, right = (
        one.features / np.linalg.norm(one.features, axis=1, keepdims=True) for one in (asked, known)
    )
    cosines = left @ right.T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return nearest, np.take_along_axis(cosines, nearest, 1)


def draw(path, known, asked, nearest, similarity, labels):
    """Writes the picture: a row for each image that was asked for."""
    columns = 1 + nearest.shape[1]
    figure = new_figure("neighbors.py", 1.3 * columns, 1.5 * len(nearest))
    grid = figure.subplots(len(nearest), columns, squeeze=False)
    for row, place in enumerate(grid):
        show(place[0], asked.paths[row], labels[asked.classes[row]], "black")
        for axes, index, cosine in zip(place[1:], nearest[row], similarity[row], strict=True):
            same = known.classes[index] == asked.classes[row]
            title = f"{labels[known.classes[index]]} {cosine:.2f}"
            show(axes, known.paths[index], title, "tab:green" if same else "tab:red")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def show(axes, path, title, color):
    """One image in its frame."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    axes.imshow(ImageOps.fit(upright, (SHOWN, SHOWN)))
    axes.set_title(title, fontsize=8, color=color)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=3)


if __name__ == "__main__":
    main()
