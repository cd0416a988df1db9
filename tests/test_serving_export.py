# SPDX-License-Identifier: Apache-2.0
"""What an export writes, and when it refuses to."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf import UserError, create_model
from inception_tf.serving import export as exporter
from inception_tf.serving import warmup
from inception_tf.serving.export import export
from inception_tf.serving.versions import newest_version

SIZE = 64
LABELS = ("tabby cat", "crane", "Ärmel")


def tiny(classes: int = 3, channels: int = 3, shape=(None, None)) -> keras.Model:
    images = keras.Input((*shape, channels))
    x = keras.layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(x), name="tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return export(tiny(), LABELS, tmp_path_factory.mktemp("saved_models") / "demo", size=SIZE)


def test_a_version_folder_holds_labels_and_warm_up_beside_the_model(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "assets.extra/tf_serving_warmup_requests",
        "assets/labels.txt",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert (folder / "assets/labels.txt").read_text("utf-8").splitlines() == list(LABELS)


def test_optimizer_and_auxiliary_classifiers_stay_behind(tmp_path):
    model = create_model(
        "inception_v3", input_shape=(75, 75, 3), classes=3, width_multiplier=0.1, aux_logits=True
    )
    model.compile("adam", "categorical_crossentropy", jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    served = [w for w in model.weights if not w.path.startswith("AuxLogits")]
    assert shapes(export(model, LABELS, tmp_path, size=75, fold=False)) == sorted(
        list(w.shape) for w in served
    )

    # Folded, a convolution has a bias in place of a shift, a mean and a variance.
    plain = export(model, LABELS, tmp_path, size=75)
    kept = [w for w in served if "moving" not in w.path]
    assert shapes(plain) == sorted(list(w.shape) for w in kept)


def shapes(folder):
    saved = tf.train.list_variables(str(folder / "variables/variables"))
    return sorted(shape for _, shape in saved if shape)


def test_a_folded_export_answers_as_one_with_batch_normalization(tmp_path):
    keras.utils.set_random_seed(0)
    model = create_model("bn_inception", input_shape=(64, 64, 3), classes=3, width_multiplier=0.25)
    for weight in model.weights:
        if "moving_mean" in weight.path:
            weight.assign(keras.random.normal(weight.shape, stddev=0.2))
    images = tf.random.stateless_uniform((4, 70, 80, 3), (0, 0), 0, 256, tf.int32)
    answers = [
        tf.saved_model.load(export(model, LABELS, tmp_path, size=64, fold=fold)).signatures[
            "image_tensor"
        ](images=tf.cast(images, tf.uint8))["probabilities"]
        for fold in (True, False)
    ]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-4)
    assert np.ptp(answers[0]) > 1e-3


def test_the_warm_up_log_covers_every_signature_at_two_batch_sizes(folder):
    calls = warmup.read(folder)
    found = {(call.signature, len(*call.inputs.values())) for call in calls}
    names = ("serving_default", "image_tensor", "classify")
    assert found == {(name, batch) for name in names for batch in (1, 4)}


def test_versions_count_up_and_the_newest_is_found(tmp_path):
    to = tmp_path / "new" / "demo"
    model = tiny()
    first = export(model, LABELS, to, size=SIZE)
    tenth = export(model, LABELS, to, size=SIZE, version=10)
    next_one = export(model, LABELS, to, size=SIZE, crop=None)
    assert [path.name for path in (first, tenth, next_one)] == ["1", "10", "11"]
    assert newest_version(to) == next_one
    assert newest_version(tenth) == tenth
    assert sorted(path.name for path in to.iterdir()) == ["1", "10", "11"]


def test_a_version_that_is_there_is_refused_and_kept(tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(UserError, match=r"version 3 is in '.*' already; leave .* the next, 4"):
        export(tiny(), LABELS, tmp_path, size=SIZE, version=3)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_exports_at_the_same_time_each_get_a_number(tmp_path):
    built = [tmp_path / f".export-{i}" for i in range(16)]
    for path in built:
        path.mkdir()
        (path / "saved_model.pb").touch()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: exporter._publish(path, tmp_path, None), built))
    assert {path.name for path in tmp_path.iterdir()} == {str(i) for i in range(1, 17)}


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_export_leaves_nothing_behind(tmp_path, monkeypatch, there):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(warmup, "write", fail)
    to = tmp_path / "demo"
    if there:
        to.mkdir()
    with pytest.raises(OSError, match="no space left"):
        export(tiny(), LABELS, to, size=SIZE)
    assert list(tmp_path.rglob("*")) == ([to] if there else [])


REFUSED = {
    r"2 labels for 3 classes": {"labels": ("a", "b")},
    r"label 'a\\nb' is not one line of text": {"labels": ("a\nb", "c", "d")},
    r"label '' is not one line of text": {"labels": ("", "c", "d")},
    r"size takes a whole number of at least 1, got 0": {"size": 0},
    r"top takes a whole number of at least 1, got 2\.5": {"top": 2.5},
    r"version takes a whole number of at least 1, got -1": {"version": -1},
    r"version takes a whole number of at least 1, got True": {"version": True},
    r"crop takes a share of each side above 0 and up to 1, or None, got 1\.5": {"crop": 1.5},
    r"'tiny' takes images of \(None, None, 1\), not \(64, 64, 3\)": {"model": tiny(channels=1)},
    r"'tiny' takes images of \(32, 32, 3\), not \(64, 64, 3\)": {"model": tiny(shape=(32, 32))},
    r"'headless' gives": {"model": keras.Model(*[keras.Input((8, 8, 3))] * 2, name="headless")},
    r"functional model with one input; 'sequential' is not": {
        "model": keras.Sequential(name="sequential")
    },
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_an_argument_outside_its_range_is_refused_before_anything_is_written(tmp_path, sentence):
    arguments = {"model": tiny(), "labels": LABELS, "to": tmp_path / "demo", "size": SIZE}
    with pytest.raises(UserError, match=sentence):
        export(**arguments | REFUSED[sentence])
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(UserError, match="is a file; give the folder"):
        export(tiny(), LABELS, tmp_path / "demo", size=SIZE)


def test_without_the_serving_api_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(UserError, match=r"pip install 'inception_tf\[serve\]'"):
        export(tiny(), LABELS, tmp_path, size=SIZE)
