# SPDX-License-Identifier: Apache-2.0
"""What version 0.1.0 wrote is read, resumed and served by this one with that version's results.

Made by earlier_versions/make_0.1.0.sh; the .npy files are that version's predictions for a ramp of pixels.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import inception_tf
from inception_tf import cli
from inception_tf.classifiers import open_classifier
from inception_tf.nn.batch_norm import BatchNormalization

ARCHIVE = Path(__file__).parent / "earlier_versions" / "0.1.0.tar.xz"
RAMP = np.linspace(-1, 1, 32 * 32 * 3, dtype="float32").reshape(1, 32, 32, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    unpacked = tmp_path_factory.mktemp("0.1.0")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked


def test_a_finished_run_predicts_as_before_and_trains_fused(folder):
    classifier = open_classifier(str(folder / "finished"))
    assert classifier.labels == tuple("0123456789")
    found = classifier.model(RAMP, training=False)
    np.testing.assert_allclose(found, np.load(folder / "finished.npy"), atol=1e-5)
    norms = [x for x in classifier.model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {type(norm) for norm in norms} == {BatchNormalization}
    assert len(norms) == 57


def test_a_stopped_run_is_resumed_to_the_same_result(folder, capfd):
    assert cli.main(["train", "--out", str(folder / "unfinished"), "--resume"]) == 0
    found = open_classifier(str(folder / "unfinished")).model(RAMP, training=False)
    np.testing.assert_allclose(found, np.load(folder / "resumed.npy"), atol=1e-5)


def test_a_weights_file_is_loaded_in_full(folder):
    model = inception_tf.create_model(
        "inception_v1", classes=10, input_shape=(32, 32, 3), width_multiplier=0.0625
    )
    inception_tf.load_weights(model, folder / "inception_v1.weights.h5")
    found = model(RAMP, training=False)
    np.testing.assert_allclose(found, np.load(folder / "inception_v1.npy"), atol=1e-6)


def test_a_saved_model_of_keras_loads(folder):
    found = keras.saving.load_model(folder / "googlenet.keras")(RAMP, training=False)
    np.testing.assert_allclose(found, np.load(folder / "googlenet.npy"), atol=1e-6)


def test_an_export_predicts_as_the_run_that_it_came_from(folder, capfd):
    image = folder / "ramp.png"
    pixels = np.rint((RAMP[0] + 1) * 127.5).astype("uint8")
    image.write_bytes(tf.io.encode_png(pixels).numpy())
    rows = []
    for path in ("finished", "saved/1"):
        assert cli.main(["predict", str(folder / path), str(image), "--json"]) == 0
        rows.append(json.loads(capfd.readouterr().out)[0]["top"])
    run, export = ({row["label"]: row["score"] for row in found} for found in rows)
    assert list(run) == list(export)
    for label, score in run.items():  # the export computes in bfloat16
        assert export[label] == pytest.approx(score, abs=0.03)


@pytest.mark.slow  # six seconds of a child process
def test_an_export_passes_verify(folder, capfd):
    assert cli.main(["verify", str(folder / "saved" / "1")]) == 0, capfd.readouterr().out
