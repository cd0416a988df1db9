# SPDX-License-Identifier: Apache-2.0
"""The old `.h5` files of keras.applications, written here by Keras' own code for them."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest
import ramps
from keras.src.legacy.saving import legacy_h5_format

import inception_tf
from inception_tf.weights import keras_h5

SIDE, CLASSES = 75, 10
BUILDERS = {
    "inception_v3": keras.applications.InceptionV3,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
}


def write(path, name, **arguments):
    arguments = {"input_shape": (SIDE, SIDE, 3), "weights": None, "classes": CLASSES} | arguments
    model = BUILDERS[name](**arguments)
    ramps.fill(model)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "inception_v3_kernels.h5"
    return path, write(path, "inception_v3")


def ours(name="inception_v3", **arguments):
    arguments = {"input_shape": (SIDE, SIDE, 3), "classes": CLASSES} | arguments
    return inception_tf.create_model(name, **arguments)


def assert_equal_outputs(model, theirs):
    images = ramps.images(1, SIDE, SIDE, 3)
    expected, found = theirs.predict_on_batch(images), model.predict_on_batch(images)
    # The same layers in the same order of sums: only the thread that adds may differ.
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_file_fills_the_model_and_gives_the_same(written):
    path, theirs = written
    model = ours()
    report = inception_tf.load_weights(model, path)
    assert len(report.used) == len(report.read) == len(model.weights) == len(theirs.weights)
    assert_equal_outputs(model, theirs)


@pytest.mark.slow
def test_file_of_inception_resnet_v2_gives_the_same(tmp_path):
    theirs = write(tmp_path / "v2.h5", "inception_resnet_v2")
    model = ours("inception_resnet_v2")
    report = inception_tf.load_weights(model, tmp_path / "v2.h5")
    assert len(report.used) == len(report.read) == len(model.weights)
    assert_equal_outputs(model, theirs)


def test_file_without_a_top_fills_a_model_without_one(tmp_path):
    write(tmp_path / "notop.h5", "inception_v3", include_top=False)
    model = ours(include_top=False)
    assert len(inception_tf.load_weights(model, tmp_path / "notop.h5").used) == len(model.weights)


def test_top_of_the_file_is_left_out_where_the_model_has_none(written):
    report = inception_tf.load_weights(ours(include_top=False), written[0])
    assert set(report.unused) == {"predictions/kernel", "predictions/bias"}


def test_names_inside_the_file_may_be_those_of_keras_2(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"conv2d_1"]
        group.create_group("conv2d_1").attrs["weight_names"] = [b"conv2d_1/kernel:0"]
        group["conv2d_1/conv2d_1/kernel:0"] = np.arange(3.0)
    assert list(keras_h5.read(str(tmp_path / "old.h5"))) == ["conv2d_1/kernel"]


# Bad input


def test_one_missing_variable_is_refused(written, tmp_path):
    path = tmp_path / "less.h5"
    path.write_bytes(written[0].read_bytes())
    with h5py.File(path, "a") as file:
        layer = file.attrs["layer_names"][-1]
        file[layer].attrs["weight_names"] = file[layer].attrs["weight_names"][:1]
    with pytest.raises(
        inception_tf.UserError, match=r"the file lacks 1 of its variables \(Logits/bias\); nothing"
    ):
        inception_tf.load_weights(ours(), path)


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_truncated_file_is_refused(written, tmp_path, kept):
    whole = written[0].read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(inception_tf.UserError, match="is damaged or no .h5 file of keras"):
        inception_tf.load_weights(ours(), path, source="keras")


def test_network_that_keras_lacks_is_refused(written):
    with pytest.raises(
        inception_tf.UserError,
        match=r"^model 'inception_v1' is none of the networks of keras.applications; known",
    ):
        inception_tf.load_weights(ours("inception_v1"), written[0])
