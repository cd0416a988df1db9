# SPDX-License-Identifier: Apache-2.0
"""slim's checkpoints as its trainers leave them: classes, heads, slots, moving averages, gammas, facenet's head."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from types import SimpleNamespace

import forked
import keras
import numpy as np
import pytest
import ramps
import slim_later
import tensorflow as tf

import inception_tf
from inception_tf.models import find_network, variant
from inception_tf.weights.convert import read_foreign_weights
from inception_tf.weights.names import slim

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = (
    *("googlenet", "inception_v1", "inception", "bn_inception", "inception_v2", "inception_v3"),
    *("inception_v4", "inception_resnet_v1", "inception_resnet_v2"),
)

TOLERANCE = 2e-5  # largest difference by largest value; 3e-7 was measured
WITH_AUXILIARY = ("inception_v3", "inception_v4", "inception_resnet_v2")
AVERAGE, STEP = "/ExponentialMovingAverage", "global_step"
SLOTS = (AVERAGE, "/Momentum", "/RMSProp", "/RMSProp_1")


def save(path, arrays):
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )


def in_slims_names(model, network) -> dict[str, np.ndarray]:
    """A model's weights as slim would save them; where slim convolves with 1x1, so is the shape."""
    names, found = slim.slim_names(find_network(network)), {}
    for weight in model.weights:
        is_convolution = re.search(r"Conv2d_\dc_1x1|Conv2d_2b_1x1/w|/fc\d", names[weight.path])
        array = weight.numpy()
        found[names[weight.path]] = (
            array[None, None] if is_convolution and array.ndim == 2 else array
        )
    return found


def with_leftovers(arrays):
    slots = {f"{name}{slot}": np.zeros(2, np.float32) for name in arrays for slot in SLOTS}
    return arrays | slots | {STEP: np.int64(9)}


def build(name, **arguments):
    """A narrow network, weights by rule; one model for the same arguments."""
    model = _built(name, **arguments)
    ramps.fill(model)
    return model


@functools.cache
def _built(name, **arguments):
    return inception_tf.create_model(name, width_multiplier=0.1, **arguments)


@pytest.fixture(scope="module", params=slim.NETWORKS_OF_SLIM)
def network(request, tmp_path_factory):
    """A narrow network's models for 1,000 classes, with and without auxiliary head, and three checkpoints."""
    name, folder = request.param, tmp_path_factory.mktemp("slim")
    has_auxiliary = name in WITH_AUXILIARY
    whole = build(name, aux_logits=has_auxiliary)
    plain = build(name, aux_logits=False) if has_auxiliary else whole
    arrays = in_slims_names(whole, name)
    auxiliary = {key for key in arrays if "/AuxLogits/" in key}
    heads = {
        slim.slim_names(find_network(name))[f"Logits/{kind}"] for kind in ("kernel", "bias")
    } | {key for key in auxiliary if re.search(r"ogits/(Aux_l|L)ogits/|Conv2d_2b_1x1/", key)}
    background = {
        key: np.concatenate([np.full_like(array[..., :1], 7), array], -1) if key in heads else array
        for key, array in arrays.items()
    }
    save(folder / "1000.ckpt", with_leftovers(arrays))
    save(folder / "1001.ckpt", with_leftovers(background))
    bare = {key: array for key, array in arrays.items() if key not in auxiliary}
    save(folder / "bare.ckpt", with_leftovers(bare))
    return SimpleNamespace(**locals())


def assert_loaded(model, path, **arguments):
    """All of `model` is filled from `path` with the values of the rule."""
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape, np.float32))
    report = inception_tf.load_weights(model, path, **arguments)
    for weight in model.weights:
        np.testing.assert_array_equal(weight, ramps.weight(weight.path, tuple(weight.shape)))
    assert (report.missing, report.mismatched) == ((), ())
    assert len(report.used) == len(model.weights)
    return report


def test_what_a_trainer_leaves_is_set_aside_and_named(network):
    report = assert_loaded(network.whole, network.folder / "1000.ckpt")
    assert set(report.read) == set(network.arrays)
    assert report.unused == ()
    expected = {STEP, *(f"{name}{slot}" for name in network.arrays for slot in SLOTS)}
    assert set(report.training_state) == expected


def test_auxiliary_classifier_of_the_file_is_unused_by_a_model_without_one(network):
    report = assert_loaded(network.plain, network.folder / "1000.ckpt")
    assert set(report.unused) == network.auxiliary


def test_checkpoint_without_auxiliary_classifier_fills_only_a_model_without_one(network):
    report = assert_loaded(network.plain, network.folder / "bare.ckpt")
    assert report.unused == ()
    if network.has_auxiliary:
        with pytest.raises(
            inception_tf.UserError, match=r"^the file has no auxiliary classifier \("
        ):
            inception_tf.load_weights(network.whole, network.folder / "bare.ckpt")


def test_1001_classes_are_refused_for_1000_and_fit_without_their_first(network):
    path = network.folder / "1001.ckpt"
    with pytest.raises(
        inception_tf.UserError, match="has 1001 classes in the file and 1000 in the model; create"
    ):
        inception_tf.load_weights(network.whole, path)
    report = assert_loaded(network.whole, path, drop_background=True)
    assert "first class of 1001 dropped" in report.notes


# The networks that tf_slim lacks, laid from its layers


@pytest.mark.slow
@pytest.mark.skipif(
    not (importlib.util.find_spec("tf_slim") and importlib.util.find_spec("tf_keras")),
    reason="needs tf_slim and tf_keras, the oracle: install the development extra",
)
@pytest.mark.parametrize("name", slim_later.JOBS)
def test_later_networks_give_the_logits_of_slims_layers(whole_networks, name, tmp_path):
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    child = forked.run([slim_later.__file__, tmp_path, name], env=hidden)
    assert child.returncode == 0, child.stderr
    with np.load(tmp_path / f"{name}.npz") as file:
        theirs = dict(file)
    is_body = name == "inception_resnet_v1"
    head = {"include_top": False} if is_body else {"classes": 1001, "aux_logits": True}
    model = inception_tf.create_model(name, input_shape=(299, 299, 3), **head)
    report = inception_tf.load_weights(model, tmp_path / f"{name}.ckpt")
    assert len(report.used) == len(model.weights)
    assert list(report.unused) == [n for n in sorted(theirs["names"]) if "Bottleneck" in n]
    ends = {k: v for k, v in inception_tf.endpoints(model).items() if f"end/{k}" in theirs}
    assert is_body or {"AuxLogits", "Logits"} <= ends.keys()
    images = ramps.images(slim_later.BATCH, slim_later.SIZE, slim_later.SIZE, 3)
    for end, ours in keras.Model(model.input, ends).predict_on_batch(images).items():
        expected = theirs[f"end/{end}"].reshape(ours.shape)
        assert np.std(expected) > 0.1
        assert np.abs(ours - expected).max() < TOLERANCE * np.abs(expected).max(), end


# Moving averages, from a checkpoint that TF1 itself trained and wrote


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A narrow AlexNet after one step of RMSProp with slim's moving averages, and both sets of values."""
    path = tmp_path_factory.mktemp("trained") / "model.ckpt-1"
    model = build("alexnet", classes=5)
    arrays = in_slims_names(model, "alexnet")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=array) for name, array in arrays.items()]
        step = v1.train.get_or_create_global_step()
        loss = tf.add_n([tf.reduce_sum(variable**2) for variable in variables])
        train = v1.train.RMSPropOptimizer(0.1, momentum=0.9).minimize(loss, step, variables)
        averages = tf.train.ExponentialMovingAverage(0.5)
        with tf.control_dependencies([train]):
            update = averages.apply(variables)
        session.run(v1.global_variables_initializer())
        session.run(update)
        v1.train.Saver().save(session, str(path), write_meta_graph=False)
        torn = [
            v for v in v1.global_variables() if v.op.name != averages.average_name(variables[3])
        ]
        v1.train.Saver(torn).save(session, f"{path}-torn", write_meta_graph=False)
        plain = dict(zip(arrays, session.run(variables), strict=True))
        shadows = session.run([averages.average(variable) for variable in variables])
    return path, plain, dict(zip(arrays, shadows, strict=True))


def values(model) -> dict[str, np.ndarray]:
    return in_slims_names(model, "alexnet")


def test_plain_values_are_taken_unless_averages_are_asked_for(trained):
    path, plain, _ = trained
    model = build("alexnet", classes=5)
    report = inception_tf.load_weights(model, path, source="slim")
    for name, array in values(model).items():
        np.testing.assert_array_equal(array, plain[name], err_msg=name)
    assert set(report.used) == set(plain)
    assert {STEP, *(f"{name}{AVERAGE}" for name in plain)} <= set(report.training_state)
    assert "read the raw weights, not the moving averages (ema)" in str(report)


def test_each_moving_average_is_taken_under_its_own_name(trained):
    path, plain, shadows = trained
    model = build("alexnet", classes=5)
    report = inception_tf.load_weights(model, path, source="slim", ema=True)
    for name, array in values(model).items():
        np.testing.assert_array_equal(array, shadows[name], err_msg=name)
        assert np.abs(array - plain[name]).max() > 0
    assert set(report.used) == {f"{name}{AVERAGE}" for name in plain}
    assert set(plain) <= set(report.training_state)
    assert "read the moving averages, not the raw weights" in str(report)


def test_a_missing_average_is_refused_by_name(trained):
    path, plain, _ = trained
    gone = list(plain)[3]
    sentence = (
        f"'{path}-torn' has no moving average of 1 of its {len(plain)} variables ({gone}); omit"
        " ema to read the raw weights"
    )
    with pytest.raises(inception_tf.UserError, match=f"^{re.escape(sentence)}$"):
        inception_tf.load_weights(
            build("alexnet", classes=5), f"{path}-torn", source="slim", ema=True
        )


def test_a_checkpoint_without_averages_is_refused(tmp_path):
    model = build("alexnet", classes=5)
    save(tmp_path / "alexnet.ckpt", in_slims_names(model, "alexnet"))
    with pytest.raises(inception_tf.UserError, match="has no moving average of 16 of its 16"):
        inception_tf.load_weights(model, tmp_path / "alexnet.ckpt", ema=True)


def test_averages_are_slims_alone(tmp_path):
    model = build("alexnet", classes=5)
    model.save_weights(tmp_path / "alexnet.weights.h5")
    sentence = (
        "only checkpoints of slim, torchvision, timm have moving averages beside the weights; omit ema for a file of"
        " 'native'"
    )
    with pytest.raises(inception_tf.UserError, match=f"^{sentence}$"):
        inception_tf.load_weights(model, tmp_path / "alexnet.weights.h5", ema=True)


# Gammas, which slim writes under batch_norm_scale=True


@pytest.mark.parametrize("ema", [False, True])
def test_gammas_are_kept_by_a_model_that_has_them_and_folded_by_another(tmp_path, ema):
    arguments = {"classes": 5, "width_multiplier": 0.1, "input_shape": (32, 32, 3)}
    source = inception_tf.InceptionV1(batch_norm_scale=True, **arguments)
    ramps.fill(source)
    names = slim.slim_names(variant("inception_v1", batch_norm_scale=True))
    arrays = {names[weight.path]: weight.numpy() for weight in source.weights}
    arrays = {k: a[None, None] if "Logits" in k and a.ndim == 2 else a for k, a in arrays.items()}
    zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
    averages = {f"{name}{AVERAGE}": array for name, array in arrays.items()}
    save(tmp_path / "inception_v1.ckpt", zeros | averages if ema else arrays)
    path = str(tmp_path / "inception_v1.ckpt")
    found = read_foreign_weights("inception_v1", "slim", path, ema=ema)
    assert found.switches == {"batch_norm_scale": True}
    kept = inception_tf.InceptionV1(batch_norm_scale=True, **arguments)
    inception_tf.load_weights(kept, path, ema=ema)
    for weight in kept.weights:
        np.testing.assert_array_equal(weight, ramps.weight(weight.path, tuple(weight.shape)))
    folded = inception_tf.InceptionV1(**arguments)
    with pytest.warns(UserWarning, match="gammas folded into the kernels"):
        inception_tf.load_weights(folded, path, ema=ema)
    image = ramps.images(2, 32, 32, 3)
    np.testing.assert_allclose(
        folded(image), source(image), rtol=1e-3
    )  # probabilities of float32 products


def test_gamma_without_its_kernel_is_refused(tmp_path):
    model = build("inception_v1", classes=5)
    arrays = in_slims_names(model, "inception_v1")
    save(tmp_path / "a.ckpt", arrays | {"InceptionV1/Extra/BatchNorm/gamma": np.ones(3)})
    with pytest.raises(inception_tf.UserError, match="no variable for 1 of the file's arrays"):
        inception_tf.load_weights(model, tmp_path / "a.ckpt")


# facenet's head


@pytest.fixture(scope="module")
def facenet(tmp_path_factory):
    """A narrow Inception-ResNet v1 as facenet saves it: bottleneck, classifier of faces, centres."""
    body = build("inception_resnet_v1", include_top=False)
    arrays = {
        slim.slim_names(find_network("inception_resnet_v1"))[w.path]: w.numpy()
        for w in body.weights
    }
    head = {
        "InceptionResnetV1/Bottleneck/weights": np.ones((176, 128)),
        **{
            f"InceptionResnetV1/Bottleneck/BatchNorm/{kind}": np.ones(128)
            for kind in ("beta", "moving_mean", "moving_variance")
        },
        "Logits/weights": np.ones((128, 10)),
        "Logits/biases": np.ones(10),
    }
    path = tmp_path_factory.mktemp("facenet") / "model.ckpt-9"
    save(path, with_leftovers(arrays | head) | {"centers": np.ones((10, 128))})
    return path, set(head)


def test_body_is_filled_and_facenets_head_is_unused(facenet):
    path, head = facenet
    report = assert_loaded(build("inception_resnet_v1", include_top=False), path)
    assert set(report.unused) == head
    assert "centers" in report.training_state


def test_facenets_head_is_refused_by_a_model_with_another(facenet):
    model = build("inception_resnet_v1", classes=5)
    sentence = (
        "the classifier in the file has another structure than this network's"
        " (InceptionResnetV1/Bottleneck/weights, InceptionResnetV1/Bottleneck/BatchNorm/beta,"
        " InceptionResnetV1/Bottleneck/BatchNorm/moving_mean and 3 more); load the backbone alone with"
        " skip_head=True, on the command line --skip-head"
    )
    with pytest.raises(inception_tf.UserError, match=f"^{re.escape(sentence)}$"):
        inception_tf.load_weights(model, facenet[0])
    kernel = model.get_layer("Logits").kernel.numpy()
    report = inception_tf.load_weights(model, facenet[0], skip_head=True)
    assert set(report.unused) == facenet[1]
    np.testing.assert_array_equal(model.get_layer("Logits").kernel, kernel)
