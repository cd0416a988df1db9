# SPDX-License-Identifier: Apache-2.0
"""Names for images from an exported SavedModel, in TensorFlow's C++ session and in its Python."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from no_pictures import save_without_pictures

from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import runtime_folder
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel import c_api
from inception_tf.savedmodel.signature_def import read_signatures
from inception_tf.serving import predict

LABELS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(1)
    images = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, 2)(images))
    model = keras.Model(
        images, keras.layers.Dense(len(LABELS), "softmax", bias_initializer="uniform")(x)
    )
    return export(model, LABELS, tmp_path_factory.mktemp("models") / "net", Preprocessing(16))


@pytest.fixture(scope="module")
def ask(exported):
    """The model in TensorFlow's C++ session."""
    return predict.open_model(exported)


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


def test_both_ways_to_run_a_savedmodel_answer_alike(exported, ask, monkeypatch):
    data = [jpeg(0), b"no image", jpeg(1)]
    found = ask(data, 2)

    def none():
        raise c_api.NoLoaderError("this wheel has none")

    monkeypatch.setattr(c_api, "find_libraries", none)
    python = predict.open_model(exported)(data, 2)
    assert [status for status, _ in found] == [
        "ok",
        "not a JPEG, PNG, WebP, BMP or GIF image",
        "ok",
    ]
    for (status, best), (other, theirs) in zip(found, python, strict=True):
        assert status == other
        assert [name for name, _ in best] == [name for name, _ in theirs]
        np.testing.assert_allclose([s for _, s in best], [s for _, s in theirs], atol=1e-6)
    assert len(found[0][1]) == 2
    assert found[1][1] == ()


def test_threads_share_one_session(ask):
    wanted = [ask([jpeg(seed)], 4) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: ask([jpeg(seed)], 4), range(8)))
    for ((_, best),), ((_, expected),) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(
            [score for _, score in best], [score for _, score in expected], atol=1e-6
        )


def test_a_first_answer_does_not_wait_for_tensorflows_python(exported, tmp_path):
    """Its import takes four seconds, more than loading Inception V3 and one answer together."""
    (tmp_path / "image.jpg").write_bytes(jpeg(0))
    program = (
        "import sys; from inception_tf import cli; cli.collect_garbage_rarely(); code = cli.main(sys.argv[1:]);"
        "print(code, 'tensorflow' in sys.modules, 'keras' in sys.modules);"
        "import tensorflow; print(tensorflow.constant(7).numpy())"  # nor is it in the way afterwards
    )
    child = subprocess.run(
        [sys.executable, "-c", program, "predict", str(exported), str(tmp_path / "image.jpg")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.endswith("\n0 False False\n7\n")
    assert child.stderr == ""


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_variables_are_one_sentence(tmp_path, damage, capfd):
    folder = save_without_pictures(tmp_path / "1", LABELS)
    (data,) = (folder / "variables").glob("variables.data*")
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:100])
    else:
        shutil.rmtree(folder / "variables")
    with pytest.raises(UserError, match=r"^.*/1 does not run; .*verify shows what.*[^\n]*$"):
        predict.open_model(folder)([jpeg(0)], 1)
    assert capfd.readouterr() == ("", "")


DAMAGES = {
    "a torn graph": (
        lambda folder: _cut(folder / "saved_model.pb"),
        "saved_model.pb' cannot be read",
    ),
    "no graph": (
        lambda folder: (folder / "saved_model.pb").unlink(),
        "has neither a saved_model.pb nor a numbered version folder",
    ),
    "no labels": (lambda folder: (folder / "assets/labels.txt").unlink(), "labels.txt"),
}


def _cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_and_no_other_format_is_tried(
    exported, tmp_path, monkeypatch, damage
):
    folder = tmp_path / "1"
    shutil.copytree(exported, folder)
    change, sentence = DAMAGES[damage]
    change(folder)
    monkeypatch.setattr(runtime_folder, "open_runtime_folder", lambda *_: pytest.fail("tried"))
    with pytest.raises(UserError, match=sentence):
        predict.open_model(folder)


def test_another_runtimes_file_that_is_damaged_is_named(tmp_path):
    keras.utils.set_random_seed(1)
    runtime_folder.write_description(tmp_path, LABELS, Preprocessing(16))
    (tmp_path / "report.json").write_text('{"format": "onnx"}')
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="model.onnx cannot be loaded"):
        predict.open_model(tmp_path)


@pytest.mark.parametrize("field", ["size", "crop", "scale", "bits", "interpolation", "format"])
def test_other_values_beside_another_runtimes_file_are_a_sentence(tmp_path, field):
    runtime_folder.write_description(tmp_path, LABELS, Preprocessing(16))
    (tmp_path / "report.json").write_text('{"format": "onnx"}')
    file = tmp_path / ("report.json" if field == "format" else "preprocessing.json")
    for value in ([], {}, -1, 10**30, "x", True):
        file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
        with pytest.raises(UserError, match="export it again|unknown format|must be"):
            predict.open_model(tmp_path)


def test_labels_that_are_not_as_many_as_the_classes_are_named(tmp_path):
    folder = save_without_pictures(tmp_path / "1", ("a", "b"), classes=4)
    with pytest.raises(UserError, match="gives 4 probabilities for 2 labels; export it again"):
        predict.open_model(folder)([jpeg(0)], 1)


BIG = 2**22  # numbers, 16 MiB


class Halves(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
    def both(self, x):
        return {"same": x + 1, "half": tf.cast(x, tf.float16)}


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_session_frees_its_tensors_on_every_error(tmp_path):
    module = Halves()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.both})
    signature = read_signatures(tmp_path)["serving_default"]
    session = c_api.Session(str(tmp_path))
    big, x = np.zeros(BIG, np.float32), signature.inputs["x"]
    same, half = signature.outputs["same"], signature.outputs["half"]
    wrong = {
        "an output that is not read": ({x: big}, [same, half]),
        "an input after it that is not sent": ({x: big, "y:0": np.zeros(1, np.complex64)}, [same]),
        "strings that are none": ({x: big, "y:0": np.array([b"a", 1], object)}, [same]),
        "an input that the graph lacks": ({x: big, "y:0": big}, [same]),
        "an output that the graph lacks": ({x: big}, ["y:0"]),
        "an operation that fails": ({x: big.reshape(2, -1)}, [same]),
    }
    for _ in range(3):
        session.run({x: big}, [same])
    before = _resident()
    for _ in range(5):
        for feeds, fetches in wrong.values():
            with contextlib.suppress(c_api.LoaderError):
                session.run(feeds, fetches)
    assert _resident() - before < 4 * big.nbytes
    with pytest.raises(c_api.LoaderError, match="data type 19"):
        session.run({x: big}, [same, half])
    np.testing.assert_array_equal(session.run({x: np.ones(2, np.float32)}, [same])[0], [2, 2])
