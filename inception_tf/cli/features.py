# SPDX-License-Identifier: Apache-2.0
"""`inception-tf features`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from inception_tf.cli.options import batch_size_option, keras_options
from inception_tf.cli.output import echo
from inception_tf.cli.paths import INPUT_LABELS, OUTPUT_FILE, InputPath
from inception_tf.errors import USER_MISTAKE, UserError

__all__ = ["command"]


@click.command("features")
@click.argument(
    "path",
    metavar="RUN|WEIGHTS|KERAS_MODEL|SAVED_MODEL",
    type=InputPath("a run folder, a weights file, a Keras model or a SavedModel"),
)
@click.option("--model", help="The network of a weights file that does not say it.")
@click.option(
    "--labels",
    type=INPUT_LABELS,
    metavar="FILE",
    help="Names of the classes; features need none, but a list of another length is refused.",
)
@keras_options
@click.option(
    "--input",
    "images",
    required=True,
    multiple=True,
    metavar="GLOB",
    help="The images: a file, a folder, or a pattern in quotes; may be repeated.",
)
@click.option(
    "--output",
    required=True,
    type=OUTPUT_FILE,
    metavar="FILE.npz|.parquet",
    help="Arrays, or columns, of paths and of features.",
)
@click.option(
    "--endpoint",
    help="Of which feature map, averaged over height and width.  [default: the classifier's input]",
)
@batch_size_option("Images")
def command(path, model, labels, keras_model, images, output, endpoint, batch_size):
    """Write the features of images, for nearest neighbors, clusters or a classifier of your own.

    An image that cannot be read is reported on stderr and skipped, and the exit code is 2.

    \b
    inception-tf features runs/photos --input photos --output photos.npz --endpoint Mixed_6e
    inception-tf features saved_models/photos --input 'photos/**/*.jpg' --output photos.parquet
    """
    from inception_tf.data.sources.images import find_images

    if Path(output).suffix not in (".npz", ".parquet"):
        raise UserError(
            f"{output} ends in neither .npz nor .parquet; its ending decides the format"
        )
    files = find_images(images)
    features = _extract(path, model, labels, keras_model, files, endpoint, batch_size)
    features.write(Path(output))
    count, width = features.values.shape
    echo(f"{count} images, {width} features of each: {output}")
    for image, reason in sorted(features.skipped.items()):
        echo(f"inception-tf: {image}: {reason}", err=True)
    return USER_MISTAKE if features.skipped else 0


def _extract(path, model, labels, keras_model, files, endpoint, batch_size):
    """The features by an export's signature, or by the network of a run or of a weights file."""
    from inception_tf.host.progress import progress_bar
    from inception_tf.run_folder import Run

    if Path(path).is_dir() and not Run(Path(path)).config_file.is_file():
        if model or labels or endpoint or keras_model.given():
            raise UserError(
                f"{path} is an export, whose features were chosen when it was made: --model, --labels, --scale, --size,"
                " --head and --endpoint are for runs and files"
            )
        from inception_tf.serving.features import open_served_features

        extract = open_served_features(path)
    else:
        from inception_tf.classifiers import open_classifier
        from inception_tf.data.labels import read_class_names
        from inception_tf.evaluation.features import extract_features

        network = open_classifier(path, model, keras_model, backbone=True)
        network = network.with_labels(read_class_names(labels) if labels else None)
        for note in network.notes:
            echo(note, err=True)
        extract = partial(extract_features, network, endpoint=endpoint)
    with progress_bar(len(files), path, leave=False) as bar:
        return extract(files, batch_size=batch_size, on_images=bar.update)
