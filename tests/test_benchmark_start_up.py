# SPDX-License-Identifier: Apache-2.0
"""The clock around `inception-tf predict` as a process of its own."""

from __future__ import annotations

import json

import keras
import pytest
from PIL import Image

from inception_tf import UserError, cli
from inception_tf.benchmark import start_up
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.savedmodel import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    images = keras.Input((16, 16, 3))
    flat = keras.layers.Flatten()(images)
    model = keras.Model(images, keras.layers.Dense(2, "softmax", bias_initializer="uniform")(flat))
    return export(model, ("a", "b"), tmp_path_factory.mktemp("models") / "net", Preprocessing(16))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (16, 16), "grey").save(path)
    return path


def test_the_command_prints_a_table_and_writes_every_run(exported, image, capsys, tmp_path):
    file = tmp_path / "start.json"
    words = ("benchmark", "start-up", str(exported), str(image), "--runs", "2", "--json", str(file))
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "first prediction" in out
    found = json.loads(file.read_text())
    assert len(found["first_answer"]) == len(found["peak_memory"]) == 2
    assert found["median_python"] < found["median_help"] < found["median_first_answer"] < 60
    assert 1e8 < found["median_peak_memory"] < 2e9  # bytes, with TensorFlow's libraries


def test_the_first_line_is_waited_for_and_not_the_end():
    program = "import sys, time; print(1, flush=True); time.sleep(0.5); print(7, file=sys.stderr)"
    first, whole, peak = start_up._clocked(program)
    assert whole - first > 0.4
    assert peak == 7


def test_what_predict_refuses_is_its_sentence(exported, image, tmp_path):
    with pytest.raises(UserError, match="there is no .*none; give a run folder, a weights file"):
        start_up.time_start_up(tmp_path / "none", image)
    with pytest.raises(UserError, match="no.jpg: cannot be read: No such file"):
        start_up.time_start_up(exported, tmp_path / "no.jpg")
    with pytest.raises(UserError, match="at least 1, got 0"):
        start_up.time_start_up(exported, image, 0)
