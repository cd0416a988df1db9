# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes a network on a folder of photographs, and draws its curve and where it sees its answers.

    python examples/finetune_and_explain.py flowers12 flowers.png --model googlenet --weights bvlc --epochs 5

The left of the picture has the accuracy of each epoch.  On the right are photographs that were not trained on, each
with its answer, green where it is right, and beside it the heat map of that answer (Grad-CAM).  What is trained is an
ordinary run folder, which `inception-tf evaluate`, `predict` and `export` take; called again, the script draws that
run.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click
import numpy as np
from folder_features import one_sentence, some_of_each
from neighbors import show

import inception_tf
from inception_tf.classifiers import open_run
from inception_tf.data.sources.open import open_source
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.plotting import new_figure
from inception_tf.serving.explain import heat_of_image


@click.command(help=__doc__.partition("\n")[0])
@click.argument("folder")
@click.argument("picture", type=click.Path(dir_okay=False))
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--weights", default="imagenet", show_default=True, help="A release or a file.")
@click.option("--epochs", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--size", type=int, help="Of the images, in pixels.  [default: the network's]")
@click.option("--out", default="runs/explained", show_default=True, help="The run folder.")
@click.option("--images", default=6, show_default=True, type=click.IntRange(min=1))
@one_sentence()
def main(folder, picture, model, weights, epochs, size, out, images):
    data = f"folder:{folder}"
    source = open_source(data)
    if not Path(out, "model.keras").exists():
        settings = [f"training.head_epochs={epochs // 3}"]
        inception_tf.finetune(
            *(model, data),
            weights=weights,
            epochs=epochs,
            size=size,
            batch_size=min(32, len(source.splits["train"])),
            out=out,
            settings=settings,
        )
    asked = some_of_each(source.split(), 1)
    chosen = np.linspace(0, len(asked.classes) - 1, min(images, len(asked.classes))).round()
    paths = [asked.images[i] for i in chosen.astype(int)]
    truths = [source.labels[asked.classes[i]] for i in chosen.astype(int)]
    answers = inception_tf.classifier(out).predict(paths, top=1)
    network = open_run(out)
    heats = [heat_of_image(network, Path(path).read_bytes()) for path in paths]
    draw(Path(picture), accuracies(out), paths, truths, answers, heats)
    right = sum(answer.top[0][0] == truth for answer, truth in zip(answers, truths, strict=True))
    print(f"{right} of {len(paths)} answers are right: {picture}")


def accuracies(run: str) -> list[float]:
    """The top-1 accuracy of each epoch on images that are not trained on."""
    with open(Path(run, "history.csv"), encoding="utf-8") as file:
        return [float(row["val_top1"]) for row in csv.DictReader(file)]


def draw(path, curve, paths, truths, answers, heats):
    """Writes the picture: the curve, and each image beside its heat map."""
    rows = -(-len(paths) // 2)
    figure = new_figure("finetune_and_explain.py", 4 + 5, max(3.0, 1.6 * rows))
    left, right = figure.subfigures(1, 2, width_ratios=(4, 5))
    axes = left.subplots()
    axes.plot(range(1, len(curve) + 1), [100 * one for one in curve], "o-")
    axes.set(xlabel="epoch", ylabel="accuracy of the validation images, %", ylim=(0, 101))
    axes.set_xticks(range(1, len(curve) + 1))
    axes.set_title(f"{curve[-1]:.1%} after {len(curve)} epochs", fontsize=9)
    axes.grid(alpha=0.3)
    grid = right.subplots(rows, 4, squeeze=False).reshape(-1, 2)
    for place in grid[len(paths) :].flat:
        place.set_axis_off()
    for (image, heat), file, truth, answer, png in zip(
        grid, paths, truths, answers, heats, strict=False
    ):
        name, score = answer.top[0]
        show(image, file, f"{name} {score:.0%}", "tab:green" if name == truth else "tab:red")
        show(heat, io.BytesIO(png), "where it sees it", "black")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main()
