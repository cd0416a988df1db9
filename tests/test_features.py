# SPDX-License-Identifier: Apache-2.0
"""Features of images: those of the network's own endpoints, with the paths that they belong to."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

import inception_tf
from inception_tf import UserError, cli
from inception_tf.classifiers import Classifier
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.evaluation.features import extract_features, feature_model

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture(scope="module")
def classifier():
    model = inception_tf.InceptionV1(classes=3, width_multiplier=0.1, input_shape=(32, 32, 3))
    return Classifier("a model", "inception_v1", model, 3, None, Preprocessing(32, None))


@pytest.fixture
def photos(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    for number, image in enumerate(pixels):
        (tmp_path / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    (tmp_path / "2.png").write_bytes(b"broken")
    return tmp_path, pixels


@pytest.mark.parametrize("endpoint", [None, "Mixed_3b", "PreLogits"])
def test_features_are_the_mean_of_the_endpoint_without_bad_images(classifier, photos, endpoint):
    folder, pixels = photos
    paths = [str(folder / f"{number}.png") for number in (3, 2, 0, 4)]
    found = extract_features(classifier, paths, endpoint, batch_size=2)
    assert found.paths == tuple(paths[i] for i in (0, 2, 3))
    assert found.skipped.keys() == {paths[1]}
    ends = inception_tf.endpoints(classifier.model)
    model = tf.keras.Model(classifier.model.input, ends[endpoint or "global_pool"])
    expected = model(pixels[[3, 0, 4]] / 127.5 - 1, training=False).numpy()
    expected = expected.mean((1, 2)) if expected.ndim == 4 else expected
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    assert found.values.dtype == np.float32


def test_the_default_is_what_the_classifier_is_given(classifier):
    features = feature_model(classifier.model).output
    assert features.shape[1] == classifier.model.get_layer("Logits").kernel.shape[-2]


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_the_command_writes_paths_and_features(digits_run, photos, tmp_path, capsys, ending):
    folder, _ = photos
    output = tmp_path / f"features.{ending}"
    words = ["features", str(digits_run), "--input", str(folder), "--output", str(output)]
    assert cli.main(words) == 2  # one image is broken
    assert "2.png: not a" in capsys.readouterr().err
    if ending == "npz":
        with np.load(output) as table:
            paths, values = table["paths"].tolist(), table["features"]
    else:
        table = pyarrow.parquet.read_table(output).to_pydict()
        paths, values = table["path"], np.array(table["features"])
    assert [path.rsplit("/")[-1] for path in paths] == ["0.png", "1.png", "3.png", "4.png"]
    assert values.shape[0] == 4
    assert values.std(0).max() > 0


def test_what_cannot_be_done_is_one_sentence(classifier, photos, tmp_path):
    folder, _ = photos
    with pytest.raises(UserError, match="unknown endpoint 'Mixed_3z'; .*did you mean 'Mixed_3"):
        extract_features(classifier, [str(folder / "0.png")], "Mixed_3z")
    with pytest.raises(UserError, match="none of the 1 images can be read"):
        extract_features(classifier, [str(folder / "2.png")])
    found = extract_features(classifier, [str(folder / "0.png")])
    with pytest.raises(UserError, match="ends in neither .npz nor .parquet"):
        found.write(tmp_path / "features.csv")
