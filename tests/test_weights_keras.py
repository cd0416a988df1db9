# SPDX-License-Identifier: Apache-2.0
"""The files of keras.applications, old `.h5` and those of Keras 3, written here by Keras' own code for them."""

from __future__ import annotations

import functools

import h5py
import keras
import numpy as np
import pytest
import ramps
from keras.src.legacy.saving import legacy_h5_format

import inception_tf
from inception_tf.weights.convert import convert
from inception_tf.weights.formats import keras_h5
from inception_tf.weights.formats.stored import EVERYTHING

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("inception_v1",)
SIDE, CLASSES = 75, 10
# Largest difference by largest probability.  The same layers, but our batch normalization is one
# operation and Keras' several; 1.6e-5 was measured, 244 layers deep and behind a softmax.
TOLERANCE = 5e-5
FILES = {"save_weights": "v3.weights.h5", "save": "v3.keras"}
BUILDERS = {
    "inception_v3": keras.applications.InceptionV3,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
}


@functools.lru_cache(maxsize=2)
@ramps.undrawn()
def build(name, top):
    """Keras' own network, weights by rule; shared, not to be changed."""
    model = BUILDERS[name](
        include_top=top, input_shape=(SIDE, SIDE, 3), weights=None, classes=CLASSES
    )
    ramps.fill(model)
    return model


def write(path, name, top=True):
    model = build(name, top)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "inception_v3_kernels.h5"
    return path, write(path, "inception_v3")


@pytest.fixture(scope="module")
def of_keras_3(tmp_path_factory):
    """`of_keras_3(save, top)`: a file of Keras' Inception V3, and its model; not to be changed."""

    @functools.cache
    def write(save, top):
        theirs = build("inception_v3", top)
        path = tmp_path_factory.mktemp("keras") / FILES[save]
        getattr(theirs, save)(path)
        return path, theirs

    return write


def ours(name="inception_v3", **arguments):
    """Our network, of zeros; shared."""
    model = built(name, **{"include_top": True} | arguments)
    for weight in model.weights:
        weight.assign(keras.ops.zeros_like(weight))
    return model


@functools.lru_cache(maxsize=3)
@ramps.undrawn()
def built(name, **arguments):
    arguments = {"input_shape": (SIDE, SIDE, 3), "classes": CLASSES} | arguments
    return inception_tf.create_model(name, **arguments)


def assert_equal_outputs(model, theirs):
    images = ramps.images(1, SIDE, SIDE, 3)
    # Called, not `predict`: that traces a graph of each for one image.
    expected, found = theirs(images).numpy(), model(images).numpy()
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


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
    write(tmp_path / "notop.h5", "inception_v3", top=False)
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
    assert list(keras_h5.read_keras_h5(str(tmp_path / "old.h5"), EVERYTHING, 2**30)) == [
        "conv2d_1/kernel"
    ]


# What a user saves with Keras 3


@pytest.mark.parametrize(
    ("save", "top"),
    [
        ("save_weights", True),
        ("save", False),
        pytest.param("save_weights", False, marks=pytest.mark.slow),
        pytest.param("save", True, marks=pytest.mark.slow),
    ],
)
def test_file_of_keras_3_fills_the_model_and_gives_the_same(of_keras_3, save, top):
    # Keras numbers the layers of a whole session: a model built before shifts them.
    path, theirs = of_keras_3(save, top)
    model = ours(include_top=top)
    report = inception_tf.load_weights(model, path)
    assert len(report.used) == len(report.read) == len(model.weights) == len(theirs.weights)
    assert_equal_outputs(model, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("top", [True, False])
def test_file_of_keras_3_of_inception_resnet_v2_gives_the_same(tmp_path, top):
    theirs = build("inception_resnet_v2", top)
    theirs.save_weights(tmp_path / "v2.weights.h5")
    model = ours("inception_resnet_v2", include_top=top)
    report = inception_tf.load_weights(model, tmp_path / "v2.weights.h5")
    assert len(report.used) == len(report.read) == len(model.weights)
    assert_equal_outputs(model, theirs)


def test_top_of_keras_3s_file_is_left_out_where_the_model_has_none(of_keras_3):
    path, _ = of_keras_3("save_weights", True)
    report = inception_tf.load_weights(ours(include_top=False), path)
    assert set(report.unused) == {"predictions/kernel", "predictions/bias"}


@pytest.mark.slow
def test_converted_file_of_keras_3_builds_the_same_model(tmp_path):
    theirs = build("inception_v3", True)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    done = convert("inception_v3", "keras", tmp_path / "theirs.weights.h5")
    assert done.arguments == {"classes": CLASSES}
    done.save(tmp_path / "ours.weights.h5")
    assert_equal_outputs(built("inception_v3", weights=str(tmp_path / "ours.weights.h5")), theirs)


def test_own_file_with_a_layer_of_keras_name_stays_ones_own(tmp_path):
    model = ours("inception_v1", include_top=False, width_multiplier=0.1)
    more = keras.Model(model.input, keras.layers.Conv2D(2, 1, name="conv2d_1")(model.output))
    more.save_weights(tmp_path / "more.weights.h5")
    report = inception_tf.load_weights(model, tmp_path / "more.weights.h5", strict=False)
    assert set(report.unused) == {"conv2d_1/0", "conv2d_1/1"}


def test_one_batch_normalization_with_gamma_is_refused(tmp_path):
    theirs = build("inception_v3", False)
    one = theirs.get_layer(theirs.layers[2].name)
    assert isinstance(one, keras.layers.BatchNormalization)
    theirs.save_weights(tmp_path / "gamma.weights.h5")
    with h5py.File(tmp_path / "gamma.weights.h5", "a") as file:
        found = []
        file.visititems(lambda _, item: found.append(item) if "name" in item.attrs else None)
        next(group for group in found if group.attrs["name"] == one.name)["3"] = np.ones(32)
    with pytest.raises(
        inception_tf.UserError,
        match="has gammas for 1 of 94 batch normalizations, and none for Conv2d_2a_3x3_bn",
    ):
        inception_tf.load_weights(ours(include_top=False), tmp_path / "gamma.weights.h5")


# Bad input


def test_one_missing_variable_is_refused(written, tmp_path):
    path = tmp_path / "less.h5"
    path.write_bytes(written[0].read_bytes())
    with h5py.File(path, "a") as file:
        layer = file.attrs["layer_names"][-1]
        file[layer].attrs["weight_names"] = file[layer].attrs["weight_names"][:1]
    with pytest.raises(
        inception_tf.UserError,
        match=r"the file lacks 1 of the model's variables \(Logits/bias\); nothing",
    ):
        inception_tf.load_weights(ours(), path)


@pytest.mark.parametrize("share", [0, 100, 0.5])
def test_truncated_file_is_refused(written, tmp_path, share):
    whole = written[0].read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(whole[: share if isinstance(share, int) else int(share * len(whole))])
    with pytest.raises(inception_tf.UserError, match="is damaged or not an .h5 file of keras"):
        inception_tf.load_weights(ours(), path, source="keras")


def test_network_that_keras_lacks_is_refused(written):
    model = ours("inception_v1", include_top=False, width_multiplier=0.1)
    with pytest.raises(
        inception_tf.UserError,
        match=r"^model 'inception_v1' is not one of the networks of keras.applications; known",
    ):
        inception_tf.load_weights(model, written[0])
