# SPDX-License-Identifier: Apache-2.0
"""Names for images from an exported SavedModel, in TensorFlow's C++ session and in its Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel import c_api
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


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


def test_both_ways_to_run_a_savedmodel_answer_alike(exported, monkeypatch):
    data = [jpeg(0), b"no image", jpeg(1)]
    found = predict.open_model(exported)(data, 2)

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


def test_threads_share_one_session(exported):
    ask = predict.open_model(exported)
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
        "import sys; from inception_tf import cli; code = cli.main(sys.argv[1:]);"
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
def test_damaged_variables_are_one_sentence(exported, tmp_path, damage, capfd):
    folder = tmp_path / "1"
    shutil.copytree(exported, folder)
    (data,) = (folder / "variables").glob("variables.data*")
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:100])
    else:
        shutil.rmtree(folder / "variables")
    with pytest.raises(UserError, match=r"^.*/1 does not run; .*verify shows what.*[^\n]*$"):
        predict.open_model(folder)([jpeg(0)], 1)
    assert capfd.readouterr() == ("", "")
