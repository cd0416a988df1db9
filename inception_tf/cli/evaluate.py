# SPDX-License-Identifier: Apache-2.0
"""`inception-tf evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inception_tf.cli.options import DATA, JSON_FILE, batch_size_option, source_options
from inception_tf.cli.paths import INPUT_WEIGHTS, OUTPUT_FILE

if TYPE_CHECKING:
    from inception_tf.classifiers import Classifier
    from inception_tf.data.skipped import BadImages
    from inception_tf.evaluation.metrics import Predictions

__all__ = ["command"]

COLUMNS = ("model", "resolution", "crops", "models", "top-1 error", "top-5 error")


@click.command("evaluate")
@click.argument("paths", nargs=-1, required=True, metavar="RUN|WEIGHTS...", type=INPUT_WEIGHTS)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="The network of the weights files; once for all, or once for each.",
)
@click.option(
    "--data",
    help=f"{DATA}  [default: the first run's]",
)
@source_options()
@click.option("--split", help="train, validation, test or all.  [default: validation, or test]")
@click.option(
    "--crops",
    type=click.Choice(("1", "10", "144")),
    default="1",
    show_default=True,
    help="Crops per image, whose probabilities are averaged.",
)
@batch_size_option("Crops")
@click.option("--per-class", is_flag=True, help="Also print the accuracy of each class.")
@click.option(
    "--confusion",
    type=OUTPUT_FILE,
    metavar="FILE.png",
    help="Draw the confusion matrix.",
)
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Fraction of the images that may be unreadable; they are skipped and listed.",
)
@JSON_FILE
def command(
    paths,
    models,
    data,
    reading,
    split,
    crops,
    batch_size,
    per_class,
    confusion,
    max_bad,
    json_file,
):
    """Measure top-1 and top-5 accuracy; several runs or files form an ensemble, with averaged probabilities.

    \b
    inception-tf evaluate runs/digits --data digits
    """
    from inception_tf.classifiers import align_classes, open_classifier, open_data
    from inception_tf.data.skipped import BadImages
    from inception_tf.evaluation import metrics

    source = open_data(paths[0], data, **reading)
    chosen = source.split(split)
    classifiers = [
        open_classifier(path, model)
        for path, model in zip(paths, _each(models, paths), strict=True)
    ]
    aligned = align_classes(classifiers, source, chosen, reading.get("label_offset"))
    for note in dict.fromkeys(one.note for one in aligned if one.note):
        click.echo(note, err=True)
    bad, crops = BadImages(chosen, max_bad), int(crops)
    predictions = [
        _predictions(classifier, chosen.shifted(one.shift), crops, batch_size, bad)
        for classifier, one in zip(classifiers, aligned, strict=True)
    ]
    whole = metrics.ensemble(predictions)
    results = [dict(metrics.accuracy_metrics(one)) for one in (*predictions, whole)]
    fewest = min(range(len(classifiers)), key=lambda number: classifiers[number].classes)
    labels = _labels(classifiers[fewest], source, aligned[fewest].shift)

    if len(classifiers) > 1:
        click.echo(_table(classifiers, results, crops) + "\n")
    if per_class:
        click.echo(_by_class(whole, labels) + "\n")
    click.echo(_lines(results[-1], bad))
    if confusion:
        from inception_tf.evaluation.plots import draw_confusion

        title = f"{', '.join(dict.fromkeys(m.network for m in classifiers))} on {source.name}"
        draw_confusion(metrics.confusion_matrix(whole), labels, Path(confusion), title)
    if json_file:
        _write(json_file, classifiers, results, crops, bad)


def _each(models, paths):
    from inception_tf.errors import UserError

    if len(models) <= 1:
        return [models[0] if models else None] * len(paths)
    if len(models) != len(paths):
        raise UserError(
            f"--model must be given once for all files or once for each, got {len(models)} for {len(paths)} files"
        )
    return models


def _predictions(classifier, split, crops, batch_size, bad):
    from inception_tf.evaluation.metrics import predict_split
    from inception_tf.host.progress import progress_bar

    with progress_bar(len(split), classifier.name, leave=False) as bar:
        return predict_split(
            classifier, split, crops=crops, batch_size=batch_size, bad=bad, on_images=bar.update
        )


def _labels(classifier, source, shift):
    """A name for each output; its number where it has none."""
    if classifier.labels:
        return list(classifier.labels)
    named = {label + shift: name for label, name in enumerate(source.labels)}
    background = {0: "background"} if classifier.has_background and source.named else {}
    return [(named | background).get(k, str(k)) for k in range(classifier.classes)]


def _lines(result: dict, bad: BadImages) -> str:
    lines = []
    for name in ("top1", "top5"):
        low, high = result[f"{name}_interval"]
        lines.append(
            f"{name}: {result[name]:.2%} accuracy, {1 - result[name]:.2%} error"
            f" (95 %: {1 - high:.2%} to {1 - low:.2%})"
        )
    lines.append(f"images: {result['images']}, skipped: {bad.count}")
    lines += [f"  {name}: {reason}" for name, reason in sorted(bad.reasons.items())]
    return "\n".join(lines)


def _table(classifiers: list[Classifier], results: list[dict], crops: int) -> str:
    """Each network alone and the ensemble, in the form of the documents' Figure 4."""
    from inception_tf.cli.render import table

    names = [(m.network, f"{m.preprocessing.size}x{m.preprocessing.size}", 1) for m in classifiers]
    sizes = sorted({size for _, size, _ in names})
    names.append(("ensemble", ", ".join(sizes), len(classifiers)))
    rows = [
        (name, size, crops, count, f"{1 - r['top1']:.2%}", f"{1 - r['top5']:.2%}")
        for (name, size, count), r in zip(names, results, strict=True)
    ]
    return table(COLUMNS, rows)


def _by_class(predictions: Predictions, labels: list[str]) -> str:
    from inception_tf.cli.render import table
    from inception_tf.evaluation.metrics import per_class_accuracy

    rows = [
        (labels[number], images, f"{first:.2%}", f"{five:.2%}")
        for number, images, first, five in per_class_accuracy(predictions)
    ]
    return table(("class", "images", "top-1", "top-5"), rows)


def _write(
    file: str, classifiers: list[Classifier], results: list[dict], crops: int, bad: BadImages
) -> None:
    from inception_tf.host.atomic_io import atomic_write_text

    singles = [
        {"name": m.name, "model": m.network, "size": m.preprocessing.size, **result}
        for m, result in zip(classifiers, results, strict=False)
    ]
    content = results[-1] | {
        "skipped": bad.count,
        "skipped_images": bad.reasons,
        "crops": crops,
        "members": singles,
    }
    atomic_write_text(Path(file), json.dumps(content, indent=2) + "\n")
