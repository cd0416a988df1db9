# SPDX-License-Identifier: Apache-2.0
"""One call from a folder of photographs to names for others."""

from __future__ import annotations

import json

import pytest
from small_runs import only

import inception_tf
from inception_tf import UserError


@pytest.fixture
def tiny_network():
    with only("inception_v1", "Conv2d_1a_7x7"):
        yield


@pytest.mark.usefixtures("tiny_network")
def test_a_folder_becomes_a_run_that_names_images_and_those_it_could_not_read(
    class_folders, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    folder = class_folders(blue=8, red=8)
    # Of an old archive: names that are not UTF-8, of a good image and of a broken one.
    (folder / "blue" / "1.jpg").rename(folder / "blue" / "na\udcefve.jpg")
    (folder / "red" / "3.jpg").rename(folder / "red" / "caf\udce9.jpg")
    (folder / "red" / "caf\udce9.jpg").write_bytes(b"no image at all")
    (folder / "blue" / "5.jpg").write_bytes(b"\x89PNG")
    broken = [rf"{folder}/red/caf\xe9.jpg", f"{folder}/blue/5.jpg"]
    keras_own = inception_tf.InceptionV1(classes=3, width_multiplier=0.1, input_shape=(32, 32, 3))
    keras_own.save_weights("theirs.weights.h5")
    run = inception_tf.finetune(
        *("inception_v1", f"folder:{folder}"),
        weights="theirs.weights.h5",
        epochs=1,
        batch_size=4,
        size=32,
        settings=["model.width_multiplier=0.1", "training.head_epochs=0", "data.max_bad=0.2"],
        progress=False,
    )
    assert run.path.parts[-2:] == ("runs", "images")
    config = run.config()
    assert (config.recipe, config.training.epochs, config.data.batch_size) == ("finetune", 1, 4)
    assert config.training.freeze_batch_norm
    reason = "not a JPEG, PNG, WebP, BMP or GIF image"
    report = json.loads((run.path / "report.json").read_text())
    assert report["skipped"] == dict.fromkeys(broken, reason)
    assert all(f"skipped {path}: {reason}" in caplog.text for path in broken)
    (answer,) = inception_tf.classifier(run).predict(folder / "red" / "0.jpg")
    assert {name for name, _ in answer.top} == {"blue", "red"}
    with pytest.raises(UserError, match="already holds a run"):
        inception_tf.finetune("inception_v1", f"folder:{folder}", weights=None, epochs=1)


def test_a_wrong_argument_is_one_sentence_before_any_work():
    with pytest.raises(UserError, match="training.epochs must be at least 1, got 0"):
        inception_tf.finetune("inception_v1", "digits", epochs=0)
    with pytest.raises(UserError, match="epochs 1 and --set training.epochs=2 both set"):
        inception_tf.finetune("inception_v1", "digits", epochs=1, settings=["training.epochs=2"])
