# SPDX-License-Identifier: Apache-2.0
"""One Keras model of another project behind every server that runs here: the same answers from each."""

from __future__ import annotations

import contextlib
from pathlib import Path

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf
from mlserver import of_pixels, run_mlserver
from test_export_servers import triton_config

from inception_tf import cli
from inception_tf.data.sources.open import open_source
from inception_tf.serving import Client
from inception_tf.serving.local_server import Batching, run_local_server
from inception_tf.serving.predict import predict

pytestmark = pytest.mark.slow  # conversions, and three servers

SIZE, CLASSES = 24, 10
TOLERANCE = 1e-5  # of a probability


def sequential() -> keras.Model:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(8, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES),
        ],
        name="line",
    )
    for weight in model.weights:
        weight.assign(
            abs(2 * ramps.weight(weight.path, tuple(weight.shape))) + 0.01 * ("var" in weight.path)
        )
    return model


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A folder with mine.keras, its exports by the command, and images."""
    folder = tmp_path_factory.mktemp("mine")
    sequential().save(folder / "mine.keras")
    (folder / "names.txt").write_text("".join(f"{n}\n" for n in range(CLASSES)), encoding="utf-8")
    said = [str(folder / "mine.keras"), "--labels", str(folder / "names.txt")]
    said_top = [*said, "--top", str(CLASSES), "--to", str(folder / "saved/mine")]
    assert cli.main(["export", *said_top]) == 0
    data = ("--data", "digits", "--images", "20")
    assert (
        cli.main(
            ["export", *said, "--format", "triton", *data, "--to", str(folder / "triton/mine")]
        )
        == 0
    )
    for number, image in enumerate(open_source("digits").split("test").images[:12]):
        tf.io.write_file(f"{folder}/{number:02}.png", tf.io.encode_png(image))
    (folder / "99.png").write_bytes(b"no image")
    return folder


def compare(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.image, ours.status) == (theirs.image, theirs.status)
        scores = dict(theirs.top)
        assert len(ours.top) == len(scores)
        for label, score in ours.top:
            assert score == pytest.approx(scores[label], abs=TOLERANCE)


def test_a_keras_model_answers_alike_behind_every_server(mine, tmp_path):
    images = sorted(map(str, mine.glob("*.png")))
    expected = predict(mine / "saved/mine", images, top=CLASSES)  # by TensorFlow's C++ loader
    assert [answer.status == "ok" for answer in expected] == [True] * 12 + [False]
    model = keras.models.load_model(mine / "mine.keras")
    pixels = np.stack(
        [
            tf.image.resize(tf.io.decode_png(tf.io.read_file(one), 3), (SIZE, SIZE))
            for one in images[:-1]
        ]
    )
    top = keras.ops.softmax(model(pixels, training=False)).numpy()
    assert np.ptp(top) > 0.01
    for row, answer in zip(top, expected, strict=False):
        scores = dict(answer.top)
        np.testing.assert_allclose([scores[str(n)] for n in range(CLASSES)], row, atol=1e-4)
    assert cli.main(["verify", str(mine / "saved/mine"), "--run", str(mine / "mine.keras")]) == 0

    config = triton_config(mine / "triton/mine")
    assert config["backend"] == "onnxruntime"
    compare(predict(mine / "triton/mine", images, top=CLASSES), expected)  # by ONNX Runtime
    with contextlib.ExitStack() as stack:
        for batching in (None, Batching()):
            local = stack.enter_context(run_local_server(mine / "saved/mine", "mine", batching))
            for address in (local.rest, local.grpc):
                compare(stack.enter_context(Client(address)).predict(images, top=CLASSES), expected)


def test_a_keras_model_answers_alike_behind_mlserver(mine, tmp_path):
    images = sorted(map(str, mine.glob("*.png")))
    expected = predict(mine / "saved/mine", images, top=CLASSES)
    export = mine / "triton/mine"
    with run_mlserver(tmp_path, {"mine": of_pixels(export / "1", CLASSES)}) as addresses:
        for address in addresses:
            with Client(address, model="mine", export=export) as client:
                compare(client.predict(images, top=CLASSES), expected)
