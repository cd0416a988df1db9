# SPDX-License-Identifier: Apache-2.0
"""Serves an export on this machine, and asks it about images: by the client, and by a request of six lines.

    python examples/serve_and_ask.py saved_models/photos new.jpg broken.jpg

The server is this package's test double of TensorFlow Serving (`pip install '.[serve,kserve]'`); the lines that ask are
the same for the real one.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path

import click
from folder_features import one_sentence

from inception_tf.serving import Client
from inception_tf.serving.local_server import run_local_server


@click.command(help=__doc__.partition("\n")[0])
@click.argument("saved_model")
@click.argument("images", nargs=-1, required=True)
@one_sentence()
def main(saved_model, images):
    with run_local_server(saved_model) as server:
        for address in (server.rest, server.grpc):
            print(address.partition(":")[0])
            with Client(address) as client:
                for prediction in client.predict(images, top=2):
                    best = ", ".join(f"{name} {score:.1%}" for name, score in prediction.top)
                    print(f"  {prediction.image}: {best or prediction.status}")
        print("without this package")
        for image, row in zip(images, ask(server.rest, images), strict=True):
            best = f"{row['top_classes'][0]} {row['top_scores'][0]:.1%}"
            print(f"  {image}: {best if row['status'] == 'ok' else row['status']}")


def ask(address: str, images: tuple[str, ...]) -> list[dict]:
    """TensorFlow Serving's REST API: encoded images in base64, a row of outputs for each."""
    encoded = [base64.b64encode(Path(image).read_bytes()).decode() for image in images]
    body = json.dumps({"instances": [{"b64": one} for one in encoded]}).encode()
    with urllib.request.urlopen(f"{address}:predict", body) as reply:
        return json.load(reply)["predictions"]


if __name__ == "__main__":
    main()
