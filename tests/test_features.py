# SPDX-License-Identifier: Apache-2.0
"""Features of images: those of the network's own endpoints, with the paths that they belong to."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image

import inception_tf
from inception_tf import UserError, cli
from inception_tf.classifiers import Classifier, open_classifier
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.evaluation.features import Features, extract_features, feature_model
from inception_tf.weights.metadata import WeightsMetadata, write_metadata

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture(scope="module")
def classifier():
    model = inception_tf.InceptionV1(classes=3, width_multiplier=0.1, input_shape=(32, 32, 3))
    return Classifier("a model", "inception_v1", model, 3, None, Preprocessing(32, None))


@pytest.fixture
def photos(tmp_path):
    """A folder of JPEGs, of which the third is broken, and (5, 32, 32, 3) uint8 as Pillow decodes them."""
    drawn = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for path, image in zip(paths, drawn, strict=True):
        Image.fromarray(image).save(path)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    paths[2].write_bytes(b"broken")
    return tmp_path, pixels


@pytest.mark.parametrize("endpoint", [None, "Mixed_5c", "PreLogits"])
def test_features_are_the_mean_of_the_endpoint(classifier, endpoint):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    ends = inception_tf.endpoints(classifier.model)
    model = tf.keras.Model(classifier.model.input, ends[endpoint or "global_pool"])
    expected = model(images, training=False).numpy()
    expected = expected.mean((1, 2)) if expected.ndim == 4 else expected
    found = feature_model(classifier.model, endpoint)(images, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_features_come_in_the_order_of_the_paths_without_bad_images(classifier, photos):
    folder, pixels = photos
    paths = [str(folder / f"{number}.jpg") for number in (3, 2, 0, 4)]
    found = extract_features(classifier, paths, "Mixed_5c", batch_size=2)
    assert found.paths == tuple(paths[i] for i in (0, 2, 3))
    assert found.skipped.keys() == {paths[1]}
    expected = feature_model(classifier.model, "Mixed_5c")(pixels[[3, 0, 4]] / 127.5 - 1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    assert found.values.dtype == np.float32


def test_mirrored_images_have_features_of_their_own(classifier, photos):
    folder, pixels = photos
    endpoint = "Conv2d_1a_7x7"
    found = extract_features(classifier, [str(folder / "0.jpg")], endpoint, mirrored=True).values
    maps = feature_model(classifier.model, endpoint)
    plain, expected = (maps(x[None] / 127.5 - 1) for x in (pixels[0], pixels[0][:, ::-1]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found - plain).max() > 1e-3


def test_the_default_is_what_the_classifier_is_given(classifier):
    features = feature_model(classifier.model).output
    assert features.shape[1] == classifier.model.get_layer("Logits").kernel.shape[-2]


FOUND = Features(("a.jpg", "b.jpg"), np.arange(6, dtype=np.float32).reshape(2, 3), {})


def test_a_parquet_file_has_the_same_columns(tmp_path):
    FOUND.write(tmp_path / "features.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "features.parquet")
    assert table.to_pydict() == {"path": list(FOUND.paths), "features": FOUND.values.tolist()}


def test_a_file_of_a_backbone_has_features_too(photos, tmp_path, capsys):
    folder, pixels = photos
    narrow = {"width_multiplier": 0.1}
    backbone = inception_tf.InceptionV1(include_top=False, input_shape=(32, 32, 3), **narrow)
    file = tmp_path / "backbone.weights.h5"
    backbone.save_weights(file)
    write_metadata(file, WeightsMetadata("inception_v1", narrow, Preprocessing(32, None)))
    output = tmp_path / "features.npz"
    words = ["features", str(file), "--input", str(folder / "[01].jpg"), "--output", str(output)]
    assert cli.main(words) == 0
    expected = backbone(pixels[:2] / 127.5 - 1, training=False).numpy().mean((1, 2))
    with np.load(output) as table:
        np.testing.assert_allclose(table["features"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="holds no classifier, and so names no classes"):
        open_classifier(str(file))


class FeatureSignature(tf.Module):
    """An export whose features are the mean color of each image, and one image is bad."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def features(self, image_bytes):
        bad = tf.strings.length(image_bytes) < 8

        def color(data):
            image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
            return tf.reduce_mean(tf.cast(image, tf.float32), (0, 1))

        plain = tf.where(bad, tf.io.encode_jpeg(tf.zeros((1, 1, 3), tf.uint8)), image_bytes)
        colors = tf.map_fn(color, plain, fn_output_signature=tf.float32)
        return {"features": colors, "status": tf.where(bad, "not a JPEG", "ok")}


def test_an_export_gives_the_features_of_its_signature(photos, tmp_path, capsys):
    folder, pixels = photos
    module = FeatureSignature()
    tf.saved_model.save(module, str(tmp_path / "export" / "3"), {"features": module.features})
    output = tmp_path / "features.npz"
    words = ["features", str(tmp_path / "export"), "--output", str(output), "--batch-size", "2"]
    images = ["--input", str(folder), "--input", str(folder / "none.jpg")]
    assert cli.main([*words, *images]) == 2
    refused = capsys.readouterr().err
    assert "2.jpg: not a JPEG" in refused
    assert "none.jpg: cannot be read: No such file or directory" in refused
    with np.load(output) as table:
        assert [path.rsplit("/")[-1] for path in table["paths"]] == [
            f"{i}.jpg" for i in (0, 1, 3, 4)
        ]
        np.testing.assert_allclose(table["features"], pixels[[0, 1, 3, 4]].mean((1, 2)), rtol=1e-5)
    assert cli.main([*words, "--input", str(folder / "2.jpg")]) == 2
    assert "none of the 1 images can be read" in capsys.readouterr().err
    assert cli.main([*words, *images, "--endpoint", "Mixed_5c"]) == 2
    assert "is an export, whose features were chosen when it was made" in capsys.readouterr().err


def test_a_run_and_its_export_give_the_same_features_with_their_paths(
    digits_run, digits_export, photos, tmp_path, capsys
):
    folder, _ = photos
    found = []
    for source in (digits_run, digits_export):
        output = tmp_path / "features.npz"
        words = ["features", str(source), "--input", str(folder), "--output", str(output)]
        assert cli.main(words) == 2  # one image is broken
        assert "2.jpg: not a" in capsys.readouterr().err
        with np.load(output) as table:
            paths, values = table["paths"].tolist(), table["features"]
        assert [path.rsplit("/")[-1] for path in paths] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
        found.append(values)
    assert found[0].shape[0] == 4
    assert found[0].std(0).max() > 0
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("signature", ["serving_default", "features"])
def test_an_export_without_features_names_the_option_that_adds_them(tmp_path, capsys, signature):
    module = tf.Module()
    module.call = tf.function(
        lambda images: {"probabilities": images},
        input_signature=[tf.TensorSpec([None], tf.string, "images")],
    )
    tf.saved_model.save(module, str(tmp_path / "export" / "1"), {signature: module.call})
    words = ["features", str(tmp_path / "export"), "--input", "a.jpg", "--output", "a.npz"]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no signature features(image_bytes); export it again with" in line
    assert "inception-tf export --features, or give the run or the weights" in line


def test_what_cannot_be_done_is_one_sentence(classifier, photos, tmp_path):
    folder, _ = photos
    with pytest.raises(UserError, match="unknown endpoint 'Mixed_5z'; .*did you mean 'Mixed_5"):
        extract_features(classifier, [str(folder / "0.jpg")], "Mixed_5z")
    with pytest.raises(UserError, match="none of the 1 images can be read"):
        extract_features(classifier, [str(folder / "2.jpg")])
    with pytest.raises(UserError, match="ends in neither .npz nor .parquet"):
        FOUND.write(tmp_path / "features.csv")
