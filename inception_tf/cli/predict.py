# SPDX-License-Identifier: Apache-2.0
"""`inception-tf predict`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inception_tf.cli.options import AS_JSON, keras_options, top_option
from inception_tf.cli.output import echo
from inception_tf.cli.paths import INPUT_LABELS, OUTPUT_FOLDER, InputPath
from inception_tf.errors import UserError

if TYPE_CHECKING:
    from inception_tf.inference.prediction import Prediction

__all__ = ["command"]

USER_MISTAKE = 2
TOP = 5  # classes of a prediction
MOST = 100_000  # classes, more than any network has


@click.command("predict")
@click.argument(
    "path",
    metavar="RUN|WEIGHTS|KERAS_MODEL|SAVED_MODEL|ADDRESS",
    type=InputPath(
        "a run folder, a weights file, a SavedModel or a server's address", or_address=True
    ),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@top_option()
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="The lowest probability of a class that is listed.  [default: 0.5 of multi-label networks, else none]",
)
@AS_JSON
@click.option("--model", help="The network of a weights file that does not say it.")
@click.option(
    "--labels",
    type=INPUT_LABELS,
    metavar="FILE",
    help="Names of the classes, for weights and Keras models without names.",
)
@keras_options
@click.option(
    "--explain",
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="Draw where the network sees its answer (Grad-CAM), a PNG for each image; of a run or weights.",
)
@click.option(
    "--endpoint", help="The feature map that --explain draws.  [default: the last mixed block]"
)
@click.option(
    "--export",
    "exported",
    type=InputPath("the folder of an export"),
    metavar="FOLDER",
    help="The export that a server of pixels serves, for its labels and its preprocessing.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds that a server may take per request.",
)
@click.pass_context
def command(
    context,
    path,
    images,
    top,
    threshold,
    as_json,
    model,
    labels,
    keras_model,
    explain,
    endpoint,
    exported,
    timeout,
):
    """Classify images with a run, a weights file, an exported SavedModel or a server.

    IMAGE is a file, a folder with all images below it, or a pattern in quotes, such as 'photos/**/*.jpg'.
    ADDRESS is http://host:8501/v1/models/NAME or grpc://host:8500/v1/models/NAME, of TensorFlow Serving
    or (http) KServe, or either with /v2/models/NAME, of Triton, OpenVINO Model Server, MLServer or KServe;
    https, grpcs, and /versions/V or (v1) /labels/L after the name work as well.
    A multi-label network's answer is every class from the threshold on, or the --top best of them.
    An image that cannot be read is reported on stderr, the others are classified, and the exit code is 2.

    \b
    inception-tf predict saved_models/digits digit.png
    inception-tf predict runs/photos photos/unsorted --explain heat
    inception-tf predict http://localhost:8501/v1/models/digits digit.png
    inception-tf predict http://localhost:8000/v2/models/digits digit.png --export saved_models/digits-triton
    """
    from inception_tf.data.sources.images import find_images
    from inception_tf.serving.client.address import is_address

    if endpoint and not explain:
        raise UserError("--endpoint is of --explain DIR; give that too")
    if exported and not is_address(path):
        raise UserError(f"--export is for a server's address; {path} is none")
    files = find_images(images)
    is_file = not is_address(path) and not Path(path).is_dir()
    if context.get_parameter_source("top") is click.core.ParameterSource.DEFAULT:
        top = None
    if is_address(path):
        _refuse(explain or model or labels or keras_model.given(), "a server", path)
    elif is_file or explain:
        _refuse_export(path)
    else:
        _refuse(model or labels or keras_model.given(), "a folder with its own names", path)
        _check_folder(Path(path))
    if not any(map(os.path.lexists, files)):  # no network needs to be opened to say so
        from inception_tf.inference.prediction import Prediction, read_image

        return _report([Prediction(file, read_image(file)[1], ()) for file in files], as_json)
    if is_address(path):
        from inception_tf.serving import Client

        with Client(path, timeout=timeout, export=exported) as client:
            # All that the server lists, where a threshold decides.
            found = client.predict(files, top or (TOP if threshold is None else MOST))
        predictions = [prediction.above(threshold) for prediction in found]
    elif is_file or explain:
        predictions = _predict_in_process(
            path, files, top, threshold, model, labels, keras_model, explain, endpoint
        )
    else:
        from inception_tf.serving.predict import predict

        predictions = predict(path, files, top, threshold)
    return _report(predictions, as_json)


def _report(predictions: list[Prediction], as_json: bool) -> int:
    """Prints what was answered, and what was refused; gives the exit code."""
    from inception_tf.cli.render import table
    from inception_tf.data.skipped import OK

    if as_json:
        echo(json.dumps([prediction.as_dict() for prediction in predictions], indent=2))
    else:
        rows = [
            row
            for p in predictions
            if p.status == OK
            for row in [(p.image, label, f"{score:.4f}") for label, score in p.top]
            or [(p.image, "-", "none above the threshold")]
        ]
        if rows:
            echo(table(("image", "label", "score"), rows))
    refused = [prediction for prediction in predictions if prediction.status != OK]
    for prediction in refused:
        echo(f"inception-tf: {prediction.image}: {prediction.status}", err=True)
    return USER_MISTAKE if refused else 0


def _predict_in_process(
    path, files, top, threshold, model, labels, keras_model, explained, endpoint
):
    """The predictions of a run or of a weights file, and their heat maps."""
    from inception_tf.classifiers import open_classifier
    from inception_tf.data.labels import read_class_names
    from inception_tf.inference.prediction import THRESHOLD
    from inception_tf.serving.image_classifier import ImageClassifier, function_of

    found = open_classifier(path, model, keras_model)
    for note in found.notes:
        echo(note, err=True)
    names = read_class_names(labels) if labels else None
    if threshold is None and found.multi_label:
        threshold = THRESHOLD
    # The best class is explained, whatever its probability.
    best = top or (TOP if threshold is None else found.classes)
    if explained:
        from inception_tf.inference.saliency import choose_endpoint

        endpoint = choose_endpoint(found.model, endpoint)
    predictions = ImageClassifier(function_of(found, names)).predict(files, best)
    if explained:
        from inception_tf.serving.explain import explain

        explain(found, predictions, Path(explained), endpoint)
        echo(f"inception-tf: heat maps are in {explained}", err=True)
    return [prediction.above(threshold) for prediction in predictions]


def _refuse_export(path: str) -> None:
    if Path(path).is_dir() and not (Path(path) / "config.yaml").is_file():
        raise UserError(
            f"{path} is an export, which has no gradients to explain it by; give --explain the run or the weights that"
            " it was made of"
        )


def _check_folder(path: Path) -> None:
    """Refuses a folder that is neither a run nor an export, by the names of its files."""
    from inception_tf.run_folder import Run
    from inception_tf.savedmodel.versions import find_runtime_folder, newest_version

    if not Run(path).config_file.is_file() and find_runtime_folder(path) is None:
        newest_version(path)


def _refuse(given: object, what: str, path: str) -> None:
    if given:
        raise UserError(
            f"{path} is {what}: --model, --labels, --scale, --size, --head and --explain are for runs and files"
        )
