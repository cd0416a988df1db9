# SPDX-License-Identifier: Apache-2.0
"""`inception-tf features`."""

from __future__ import annotations

from pathlib import Path

import click

from inception_tf.cli.options import batch_size_option
from inception_tf.cli.output import echo
from inception_tf.cli.paths import INPUT_WEIGHTS, OUTPUT_FILE
from inception_tf.errors import USER_MISTAKE, UserError

__all__ = ["command"]


@click.command("features")
@click.argument("path", metavar="RUN|WEIGHTS", type=INPUT_WEIGHTS)
@click.option("--model", help="The network of a weights file that does not say it.")
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
def command(path, model, images, output, endpoint, batch_size):
    """Write the features of images, for nearest neighbors, clusters or a classifier of your own.

    An image that cannot be read is reported on stderr and skipped, and the exit code is 2.

    \b
    inception-tf features runs/photos --input photos --output photos.npz --endpoint Mixed_6e
    """
    from inception_tf.data.sources.images import find_images

    if Path(output).suffix not in (".npz", ".parquet"):
        raise UserError(
            f"{output} ends in neither .npz nor .parquet; its ending decides the format"
        )
    files = find_images(images)
    from inception_tf.classifiers import open_classifier
    from inception_tf.evaluation.features import extract_features
    from inception_tf.host.progress import progress_bar

    found = open_classifier(path, model)
    with progress_bar(len(files), found.name, leave=False) as bar:
        features = extract_features(
            found, files, endpoint, batch_size=batch_size, on_images=bar.update
        )
    features.write(Path(output))
    count, width = features.values.shape
    echo(f"{count} images, {width} features of each: {output}")
    for image, reason in sorted(features.skipped.items()):
        echo(f"inception-tf: {image}: {reason}", err=True)
    return USER_MISTAKE if features.skipped else 0
