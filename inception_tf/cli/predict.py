# SPDX-License-Identifier: Apache-2.0
"""`inception-tf predict`."""

from __future__ import annotations

import json
import sys

import click

from inception_tf.cli.options import AS_JSON, top_option
from inception_tf.cli.paths import InputPath

__all__ = ["command"]

USER_MISTAKE = 2


@click.command("predict")
@click.argument(
    "path",
    metavar="RUN|SAVED_MODEL|ADDRESS",
    type=InputPath("a run folder, a SavedModel or a server's address", or_address=True),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@top_option()
@AS_JSON
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds that a server may take per request.",
)
def command(path, images, top, as_json, timeout):
    """Classify JPEG or PNG images with a run, an exported SavedModel or a server.

    ADDRESS is http://host:8501/v1/models/NAME or grpc://host:8500/v1/models/NAME, of TensorFlow Serving
    or (http) KServe; https, grpcs, and /versions/V or /labels/L after the name work as well.
    An image that cannot be read is reported on stderr, the others are classified, and the exit code is 2.

    \b
    inception-tf predict saved_models/digits digit.png
    inception-tf predict http://localhost:8501/v1/models/digits digit.png
    """
    from inception_tf.cli.render import table
    from inception_tf.serving.client.address import is_address

    if is_address(path):
        from inception_tf.serving import Client

        with Client(path, timeout=timeout) as client:
            predictions = client.predict(images, top)
    else:
        from inception_tf.serving.predict import predict

        predictions = predict(path, images, top)
    if as_json:
        click.echo(json.dumps([prediction.as_dict() for prediction in predictions], indent=2))
    else:
        rows = [(p.image, label, f"{score:.4f}") for p in predictions for label, score in p.top]
        if rows:
            click.echo(table(("image", "label", "score"), rows))
    refused = [prediction for prediction in predictions if not prediction.top]
    for prediction in refused:
        print(f"inception-tf: {prediction.image}: {prediction.status}", file=sys.stderr)
    return USER_MISTAKE if refused else 0
