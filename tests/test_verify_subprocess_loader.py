# SPDX-License-Identifier: Apache-2.0
"""The child process that runs a SavedModel, and the warm-up log that it replays."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import sample_requests, warmup
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel.call import Call
from inception_tf.verify import subprocess_loader

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    images = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    model = keras.Model(
        images, keras.layers.Dense(len(LABELS), "softmax", bias_initializer="uniform")(x)
    )
    return export(model, LABELS, tmp_path_factory.mktemp("models") / "sound", Preprocessing(32))


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / warmup.WARMUP_FILE
    path.parent.mkdir()
    return path


def test_the_loader_answers_each_call_or_says_why_not(sound):
    images = {"images": sample_requests.sample_images(2)}
    results, peak = subprocess_loader.run_saved_model(
        sound,
        [
            Call("image_tensor", images),
            Call("serve", images),
            Call("classify", images),
            Call("image_tensor", {"images": np.zeros((1, 4), np.uint8)}),
        ],
    )
    assert results[0].outputs["probabilities"].shape == (2, len(LABELS))
    assert (
        results[1].error
        == "no signature 'serve'; there are: __saved_model_init_op, classify, image_tensor, serving_default"
    )
    assert results[2].error == "inputs are ['inputs'], not ['images']"
    assert results[3].error
    assert 1e8 < peak < 2e9  # bytes; TensorFlow's libraries alone are some hundred million


def test_the_loader_reports_a_process_that_does_not_end_or_fails(sound, monkeypatch):
    with pytest.raises(subprocess_loader.LoaderError, match=r"did not end within 0\.01 seconds"):
        subprocess_loader.run_saved_model(sound, sample_requests.sample_calls(1), timeout=0.01)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(subprocess_loader.LoaderError, match="ended with code 1"):
        subprocess_loader.run_saved_model(sound, sample_requests.sample_calls(1))


def test_the_loaders_process_does_not_import_tensorflow():
    program = (
        "import sys, inception_tf.verify.subprocess_loader; print('tensorflow' in sys.modules)"
    )
    root = Path(subprocess_loader.__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root
    )
    assert child.stdout.strip() == "False"


def prediction_log(kind: str, signature: str = "") -> bytes:
    log = prediction_log_pb2.PredictionLog()
    getattr(log, kind).request.model_spec.signature_name = signature
    return log.SerializeToString()


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([], "0 records, from 1 to 1000 are replayed"),
        ([b"\xff garbage"], "record 0 is not a PredictionLog"),
        (
            [prediction_log("regress_log", "regress")],
            "record 0 holds regress_log; predict_log and classify_log are known",
        ),
        (
            [prediction_log("predict_log", "serving_default")] * 1001,
            "1001 records, from 1 to 1000 are replayed",
        ),
    ],
)
def test_a_warm_up_log_that_the_server_would_refuse_is_refused(log, records, sentence):
    with tf.io.TFRecordWriter(str(log)) as file:
        for record in records:
            file.write(record)
    with pytest.raises(ValueError, match=sentence):
        warmup.read_warmup(log.parents[1])


def test_a_torn_warm_up_log_is_refused(sound, log):
    data = (sound / warmup.WARMUP_FILE).read_bytes()
    log.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="not a TFRecord file"):
        warmup.read_warmup(log.parents[1])


def test_a_missing_warm_up_log_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no assets\.extra/tf_serving_warmup_requests"):
        warmup.read_warmup(tmp_path)
