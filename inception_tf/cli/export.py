# SPDX-License-Identifier: Apache-2.0
"""`inception-tf export`."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import click

from inception_tf.cli.options import SOURCE_OPTIONS, keras_options, source_options, top_option
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, INPUT_WEIGHTS, OUTPUT_FOLDER, InputPath
from inception_tf.inference.runtimes import FORMATS

__all__ = ["command"]

SAVED_MODEL, TRITON = "saved_model", "triton"
SAVED_MODEL_OPTIONS: tuple[str, ...] = (
    *("precision", "max_pixels", "top", "warm_up", "no_fold", "features"),
)
READING = tuple(key for key in SOURCE_OPTIONS if key != "labels")
RUNTIME_OPTIONS: tuple[str, ...] = ("int8", "data", *READING, "images", "max_drop")


@click.command("export")
@click.argument("path", metavar="RUN|WEIGHTS|KERAS_MODEL", type=INPUT_WEIGHTS)
@click.option("--model", help="The network of a weights file.")
@click.option(
    "--labels",
    type=InputPath("a file with the name of a class on each line"),
    metavar="FILE",
    help="Names of the classes, one per line, for weights and Keras models without names.",
)
@keras_options
@click.option(
    "--to",
    type=OUTPUT_FOLDER,
    help="[default: saved_models/<the run's name>, and the format]",
)
@click.option("--version", type=int, help="The version folder's number.  [default: the next one]")
@click.option(
    "--format",
    type=click.Choice((SAVED_MODEL, *FORMATS, TRITON)),
    default=SAVED_MODEL,
    show_default=True,
    help="The target: TF Serving, LiteRT, ONNX Runtime, OpenVINO (and its server) or Triton.",
)
@click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16", "float16")),
    default="float32",
    show_default=True,
    help="Precision of weights and feature maps; outputs are float32.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    help="Height x width of the largest accepted image.  [default: 50,000,000]",
)
@top_option()
@click.option(
    "--warm-up",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Images per warm-up request; may be repeated.  [default: 1, 4, 8]",
)
@click.option(
    "--no-fold", is_flag=True, help="Do not fold batch normalization into the convolutions."
)
@click.option(
    "--features",
    is_flag=True,
    help="Add the signature `features`: the vector that the classifier is computed from.",
)
@click.option(
    "--int8", is_flag=True, help="8-bit weights and feature maps, for litert, openvino and triton."
)
@click.option(
    "--data",
    type=DATA_NAME,
    help="The data to compare predictions on, as for evaluate.  [default: the run's]",
)
@source_options("labels")  # --labels names the network's classes
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Images to compare predictions on.  [default: 500]",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    help="Largest allowed drop of top-1 accuracy, as a fraction.  [default: 0.01]",
)
@click.pass_context
def command(context, path, model, labels, keras_model, to, version, format, reading, **settings):
    """Export RUN into a numbered version folder, by default as a SavedModel.

    A weights file, of this or another project, needs --model and --labels.
    KERAS_MODEL is any classifier of Keras' own layers, as model.save wrote it (.keras, .h5); it needs --labels and
    --scale, unless it scales pixels itself.
    For litert, onnx, openvino and triton the predictions are compared with the network's on real images.

    \b
    inception-tf export runs/digits --to saved_models/digits
    inception-tf export runs/digits --format openvino --int8
    inception-tf export mine.keras --labels names.txt --scale zero_one
    """
    from inception_tf.classifiers import open_classifier
    from inception_tf.data.labels import read_class_names
    from inception_tf.errors import UserError
    from inception_tf.export.metadata import Origin
    from inception_tf.weights.hub import local_file

    path = local_file(path)
    is_saved_model = format == SAVED_MODEL
    allowed, others = SAVED_MODEL_OPTIONS, RUNTIME_OPTIONS
    if not is_saved_model:
        allowed, others = others, allowed
    for name in others:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            formats = ", ".join((*FORMATS, TRITON)) if is_saved_model else SAVED_MODEL
            raise UserError(f"--{name.replace('_', '-')} is for --format {formats}, not {format}")
    classifier = open_classifier(path, model, keras_model)
    classifier = classifier.with_labels(read_class_names(labels) if labels else None)
    if classifier.labels is None:
        raise UserError(
            f"{path} has no class names; give {classifier.classes} names, one per line, with --labels FILE"
        )
    if classifier.multi_label and not is_saved_model:
        raise UserError(
            f"--format {format} compares top-1 accuracy, and {path} gives an image several classes; export it as"
            f" {SAVED_MODEL}"
        )
    if context.get_parameter_source("top") is click.core.ParameterSource.DEFAULT:
        settings["top"] = None  # as many as the network asks for
    given = {name: settings[name] for name in allowed if settings.get(name) not in (None, ())}
    given |= {"version": version, "origin": Origin.from_files(path, _weights(path), labels)}
    write = (
        _saved_model if is_saved_model else partial(_for_runtime, format=format, reading=reading)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        lines = write(path, classifier, to, **given)
    for note in classifier.notes:
        echo(note, err=True)
    for warning in caught:
        echo(f"warning: {warning.message}", err=True)
    echo("\n".join(lines))


def _saved_model(path, classifier, to, *, no_fold, max_pixels=None, **settings):
    from inception_tf.export.savedmodel import export

    if max_pixels:
        settings["pixel_limit"] = max_pixels
    to = to or _default(path)
    folder = export(
        classifier.model,
        classifier.labels,
        to,
        classifier.preprocessing,
        fold=not no_fold,
        switches=classifier.switches,
        keras_options=classifier.keras_options,
        **settings,
    )
    return (f"exported {path} to {folder}", f"check it: inception-tf verify {folder}")


def _for_runtime(path, classifier, to, *, format, int8, reading, data=None, **settings):
    from inception_tf.export.runtimes import export_runtime
    from inception_tf.run_folder import Run, open_data

    if Path(path).is_dir() and not data:
        settings["max_bad"] = Run(Path(path)).config().data.max_bad
    folder, report = export_runtime(
        classifier,
        open_data(path, data, **reading),
        to or _default(path, format, *(["int8"] if int8 else [])),
        format=format,
        int8=int8,
        label_offset=reading.get("label_offset"),
        log=partial(echo, err=True),
        **settings,
    )
    found, size = report.agreement, sum(report.files.values()) / 1e6
    return (
        f"exported {path} to {folder}, {size:.1f} MB",
        f"top-1 {found.top1_after:.2%}, in Keras {found.top1_before:.2%}; the same class on"
        f" {found.same_top1:.2%} of {found.images} images; probabilities within"
        f" {found.largest_difference:.1e}",
        f"try it: inception-tf predict {folder} IMAGE",
    )


def _default(path: str, *kind: str) -> Path:
    return Path("saved_models") / "-".join([Path(path).resolve().name.partition(".")[0], *kind])


def _weights(path: str) -> str:
    """The file that holds the weights: of a run, of a checkpoint's prefix, or the path itself."""
    from inception_tf.run_folder import Run

    if Path(path).is_dir():
        return str(Run(Path(path)).model_file)
    return path if Path(path).exists() else f"{path}.index"
