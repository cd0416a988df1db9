# SPDX-License-Identifier: Apache-2.0
"""An export with its feature vector: the signature `features`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export import sample_requests
from inception_tf.export.metadata import read_metadata
from inception_tf.export.savedmodel import export
from inception_tf.savedmodel.signature_def import read_meta_graph, read_signatures
from inception_tf.verify.check import CheckFailedError
from inception_tf.verify.static_checks import check_signatures

SIZE, WIDTH = 32, 5


def network() -> keras.Model:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(WIDTH, 3, strides=4, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Dense(3, bias_initializer="uniform", activation="softmax")(x)
    return keras.Model(image, x, name="small")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return network()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    to = tmp_path_factory.mktemp("saved_models") / "small"
    return export(model, ["a", "b", "c"], to, Preprocessing(SIZE, None), features=True)


def test_features_are_what_the_classifier_is_computed_from(model, folder):
    images = sample_requests.sample_images(3)
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    encoded.insert(1, b"no image")
    loaded = tf.saved_model.load(str(folder))
    found = loaded.signatures["features"](image_bytes=tf.constant(encoded))
    pooled = keras.Model(model.input, model.get_layer("pooled").output)
    expected = pooled(loaded.prepare(tf.constant(images))).numpy()
    np.testing.assert_allclose(found["features"].numpy()[[0, 2, 3]], expected, atol=1e-6)
    assert np.ptp(expected) > 0.1
    assert not found["features"].numpy()[1].any()
    assert [status == b"ok" for status in found["status"].numpy()] == [True, False, True, True]


def test_the_width_is_in_the_metadata_and_the_signature(folder):
    assert read_metadata(folder).features == WIDTH
    assert read_signatures(folder).keys() == {
        *("serving_default", "image_tensor", "classify", "features", "__saved_model_init_op"),
    }
    found = check_signatures(read_meta_graph(folder), WIDTH)
    assert f"D = {WIDTH}" in found
    assert "features" in found


def test_another_width_than_the_metadata_state_fails(folder):
    graph = read_meta_graph(folder)
    assert "D = 5" in check_signatures(graph, WIDTH)
    with pytest.raises(CheckFailedError, match=r"\(None, 5\), not float32 \(None, 7\)"):
        check_signatures(graph, 7)


def test_a_network_without_a_last_dense_layer_has_no_features(tmp_path):
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(image))
    model, to = keras.Model(image, x), tmp_path / "x"
    with pytest.raises(UserError, match="does not end in a dense layer"):
        export(model, ["a", "b", "c"], to, Preprocessing(SIZE), features=True)
    assert not to.exists()
