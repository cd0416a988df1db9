# SPDX-License-Identifier: Apache-2.0
"""Classifiers that others built in Keras give the same answers in every format."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import trained_v3

from inception_tf.classifiers import open_classifier
from inception_tf.data.keras_options import KerasOptions
from inception_tf.export.savedmodel import export
from inception_tf.inference import runtimes
from inception_tf.serving.predict import in_process, open_network

pytestmark = pytest.mark.slow  # converters take minutes for hundreds of layers

APPLICATIONS = {  # beside a trained InceptionV3
    "InceptionResNetV2": (75, "unit"),
    "ResNet50": (32, "caffe"),
    "MobileNetV2": (32, "unit"),
}
# What is converted up to there: their other residual blocks have the same layers and take minutes.
LAST = {
    "InceptionResNetV2": "block35_2_ac",
    "ResNet50": "conv3_block2_out",
    "MobileNetV2": "block_5_add",
}


def with_statistics(model):
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_mean.shape))
    return model


def application(name, size):
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    base = with_statistics(make(include_top=False, weights=None, input_shape=(size, size, 3)))
    x = keras.layers.GlobalAveragePooling2D()(base.get_layer(LAST[name]).output)
    x = keras.layers.Dense(5, activation="softmax")(x)
    return keras.Model(base.input, x, name=f"mine_{name.lower()}")


def sequential(size):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(8, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ],
        name="line",
    )
    return with_statistics(model)


def make(name, test_data):
    """A model, and what its user says."""
    if name == "trained_v3":
        arrays = trained_v3.read_arrays(test_data / trained_v3.FILE)
        model = trained_v3.build_original(arrays, input_shape=(299, 299, 3))
        return model, KerasOptions("zero_one")
    if name == "sequential":
        return sequential(24), KerasOptions()
    size, scale = APPLICATIONS[name]
    return application(name, size), KerasOptions(scale)


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")  # a loaded model, by Keras
@pytest.mark.parametrize("name", ["trained_v3", *APPLICATIONS, "sequential"])
def test_a_model_answers_alike_in_every_format(name, test_data, tmp_path):
    model, said = make(name, test_data)
    path = tmp_path / "mine.keras"
    model.save(path)
    found = open_classifier(str(path), None, said)
    data = np.empty(3, object)
    data[:] = trained_v3.files(test_data, "test", 1)[:3]

    labels = tuple("abcde")
    expected, _ = in_process(found.model, labels, found.preprocessing)(data)
    to = export(found.model, labels, tmp_path / "saved", found.preprocessing)
    answers = {"saved_model": open_network(to)[0](data)[0]}
    side = found.preprocessing.size
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype("float32")
    original = keras.models.load_model(path)(pixels, training=False)
    if name in ("trained_v3", "sequential"):  # logits
        original = keras.ops.softmax(original)
    np.testing.assert_allclose(found.model(pixels, training=False), original, atol=1e-6)
    np.testing.assert_allclose(answers["saved_model"], expected, atol=1e-4)
    for format in runtimes.FORMATS:
        folder = tmp_path / format
        folder.mkdir()
        runtime = runtimes.find_runtime(format)
        runtime.write_model(found.model, folder)
        answers[format] = runtime.load_model(folder)(pixels)
        np.testing.assert_allclose(answers[format], original, atol=1e-4, err_msg=format)
    # The answers differ by more than the tolerance from each other.
    assert np.ptp(expected) > 1e-3
