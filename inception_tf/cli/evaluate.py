# SPDX-License-Identifier: Apache-2.0
"""`inception-tf evaluate`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inception_tf.cli.evaluation_tables import (
    accuracy_lines,
    class_table,
    count_lines,
    ensemble_table,
    multi_label_class_table,
    multi_label_lines,
    write_scores,
)
from inception_tf.cli.options import (
    DATA,
    JSON_FILE,
    batch_size_option,
    keras_options,
    source_options,
)
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, INPUT_WEIGHTS, OUTPUT_FILE

if TYPE_CHECKING:
    from inception_tf.classifiers import Classifier
    from inception_tf.data.sources.splits import Source
    from inception_tf.evaluation.metrics import Predictions

__all__ = ["command"]


@click.command("evaluate")
@click.argument(
    "paths", nargs=-1, required=True, metavar="RUN|WEIGHTS|KERAS_MODEL...", type=INPUT_WEIGHTS
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="The network of the weights files; once for all, or once for each.",
)
@click.option(
    "--data",
    type=DATA_NAME,
    help=f"{DATA}  [default: the first run's]",
)
@source_options()
@keras_options
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
    "--predictions",
    "table_file",
    type=OUTPUT_FILE,
    metavar="FILE.csv|.parquet",
    help="Write a row for each image: path, true, predicted, score, correct.",
)
@click.option(
    "--mistakes",
    type=OUTPUT_FILE,
    metavar="FILE.png",
    help="Draw the wrong answers that the network was most certain of.",
)
@click.option(
    "--reliability",
    type=OUTPUT_FILE,
    metavar="FILE.png",
    help="Draw accuracy against confidence.",
)
@click.option(
    "--temperature",
    "fits",
    is_flag=True,
    help="Fit the number that the run's logits are divided by, and keep it in the run for `export` and `predict`.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Of multi-label data: the probability from which on a class is predicted.  [default: 0.5]",
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
    keras_model,
    split,
    crops,
    batch_size,
    per_class,
    confusion,
    table_file,
    mistakes,
    reliability,
    fits,
    threshold,
    max_bad,
    json_file,
):
    """Measure top-1 and top-5 accuracy; several runs or files form an ensemble, with averaged probabilities.

    Of multi-label data it is mean average precision, and what a threshold gives.
    KERAS_MODEL is any classifier of Keras' own layers, as model.save wrote it; --labels then names its classes too.

    \b
    inception-tf evaluate runs/digits --data digits
    """
    _check(paths, fits, table_file)
    from inception_tf.run_folder import open_data

    # Before TensorFlow is imported.
    source = open_data(paths[0], data, **reading)
    chosen = source.split(split)
    from inception_tf.data.skipped import BadImages
    from inception_tf.evaluation import metrics, tables
    from inception_tf.evaluation.alignment import align_classes
    from inception_tf.evaluation.calibration import expected_calibration_error
    from inception_tf.evaluation.multi_label import (
        confusion_matrices,
        label_metrics,
        multi_label_metrics,
    )
    from inception_tf.inference.prediction import THRESHOLD

    several = chosen.targets is not None
    _check_single(several, fits, confusion, reliability, threshold)
    threshold = THRESHOLD if threshold is None else threshold
    classifiers = [
        _open(path, model, keras_model, reading.get("labels"), alone=len(paths) == 1)
        for path, model in zip(paths, _each(models, paths), strict=True)
    ]
    for note in dict.fromkeys(note for one in classifiers for note in one.notes):
        echo(note, err=True)
    aligned = align_classes(classifiers, source, chosen, reading.get("label_offset"))
    for note in dict.fromkeys(one.note for one in aligned if one.note):
        echo(note, err=True)
    bad, crops = BadImages(chosen, max_bad), int(crops)
    predictions = [
        _predictions(classifier, chosen.shifted(one.shift), crops, batch_size, bad)
        for classifier, one in zip(classifiers, aligned, strict=True)
    ]
    whole = metrics.ensemble(predictions)
    measure = (
        partial(multi_label_metrics, threshold=threshold) if several else metrics.accuracy_metrics
    )
    results = [dict(measure(one)) for one in (*predictions, whole)]
    fewest = min(range(len(classifiers)), key=lambda number: classifiers[number].classes)
    labels = _labels(classifiers[fewest], source, aligned[fewest].shift)

    if len(classifiers) > 1:
        echo(ensemble_table(classifiers, results, crops) + "\n")
    if several:
        classes = label_metrics(whole, labels, threshold)
        if per_class:
            echo(multi_label_class_table(classes) + "\n")
        # Keys that others read, of accuracies that there are not.
        results[-1] |= {
            "top1": None,
            "top5": None,
            "classes": classes,
            "confusion": confusion_matrices(whole, threshold).tolist(),
        }
        echo("\n".join(multi_label_lines(results[-1]) + count_lines(results[-1], bad)))
    else:
        if per_class:
            echo(class_table(whole, labels) + "\n")
        results[-1] |= _single_label(whole, classifiers, labels)
        echo("\n".join(accuracy_lines(results[-1]) + count_lines(results[-1], bad)))
    if fits:
        echo(_fit(classifiers[0], whole, source, split))
    if table_file:
        tables.write_rows(tables.image_rows(whole, chosen, labels, threshold), Path(table_file))
    title = f"{', '.join(dict.fromkeys(m.network for m in classifiers))} on {source.name}"
    if mistakes:
        from inception_tf.evaluation.plots import draw_mistakes

        shown = classifiers[0].preprocessing
        draw_mistakes(whole, chosen, labels, shown, Path(mistakes), title, threshold)
    if reliability:
        from inception_tf.evaluation.calibration import reliability_bins
        from inception_tf.evaluation.plots import draw_reliability

        error = expected_calibration_error(whole)
        draw_reliability(reliability_bins(whole), error, Path(reliability), title)
    if confusion:
        from inception_tf.evaluation.plots import draw_confusion

        draw_confusion(metrics.confusion_matrix(whole), labels, Path(confusion), title)
    if json_file:
        write_scores(json_file, classifiers, results, crops, bad)


def _open(path, model, keras_model, labels, alone):
    from inception_tf.classifiers import open_classifier
    from inception_tf.data.keras_options import KerasOptions
    from inception_tf.data.labels import read_class_names

    # Of an ensemble, a run says itself what the options say of a Keras model.
    options = KerasOptions() if Path(path).is_dir() and not alone else keras_model
    found = open_classifier(path, model, options)
    named = labels and found.keras_options
    return found.with_labels(read_class_names(labels)) if named else found


def _check(paths, fits, table_file):
    """What is wrong with the options, before any work."""
    from inception_tf.errors import UserError
    from inception_tf.run_folder import Run

    runs = [Run(Path(path)) for path in paths]
    several = {
        str(run.path): run.config().data.multi_label for run in runs if run.config_file.is_file()
    }
    if len(set(several.values())) > 1:
        single = next(path for path, is_several in several.items() if not is_several)
        raise UserError(
            f"{single} gives each image one class, and the others here give several; evaluate them one by one"
        )
    if fits and (len(paths) != 1 or not Path(paths[0]).is_dir()):
        raise UserError("--temperature is fitted for one run; give its folder alone")
    if table_file:
        from inception_tf.evaluation.tables import FORMS

        if Path(table_file).suffix not in FORMS:
            raise UserError(
                f"{table_file} ends in neither .csv nor .parquet; its ending decides the format"
            )


def _check_single(several, fits, confusion, reliability, threshold):
    """What is only for images with one class, or only for those with several, before any work."""
    from inception_tf.errors import UserError

    if threshold is not None and not several:
        raise UserError(
            "--threshold is for multi-label data; here the best class of an image counts"
        )
    given = {"--temperature": fits, "--confusion": confusion, "--reliability": reliability}
    option = next((name for name, value in given.items() if several and value), None)
    if option:
        raise UserError(
            f"{option} is for images with one class each, and these have several; --per-class and --json FILE have"
            " the right and wrong decisions on each class"
        )


def _single_label(whole: Predictions, classifiers: list[Classifier], labels: list[str]) -> dict:
    """What is reported of images with one class beside the accuracies."""
    from inception_tf.evaluation import metrics, tables
    from inception_tf.evaluation.calibration import expected_calibration_error

    return {
        "expected_calibration_error": expected_calibration_error(whole),
        "temperature": classifiers[0].temperature if len(classifiers) == 1 else None,
        "classes": tables.class_metrics(whole, labels),
        "confusion": metrics.confusion_matrix(whole).tolist(),
    }


def _fit(
    classifier: Classifier, predictions: Predictions, source: Source, split: str | None
) -> str:
    """Fits the temperature of a run, keeps it there, and says what it changes."""
    from inception_tf.evaluation.calibration import (
        expected_calibration_error,
        fit_temperature,
        with_temperature,
    )
    from inception_tf.host.atomic_io import atomic_write_text
    from inception_tf.run_folder import Run

    more = fit_temperature(predictions)
    # The predictions have the temperature of before in them.
    temperature = classifier.temperature * more
    run = Run(Path(classifier.name))
    noted = {
        "temperature": temperature,
        "data": source.name,
        "split": split or source.held_out_split(),
        "images": len(predictions.classes),
    }
    atomic_write_text(run.temperature_file, json.dumps(noted, indent=2) + "\n")
    before, after = (
        expected_calibration_error(one)
        for one in (predictions, with_temperature(predictions, more))
    )
    return (
        f"temperature: {temperature:.3f}, kept in {run.temperature_file}; on these images the expected"
        f" calibration error falls from {before:.2%} to {after:.2%}"
    )


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
