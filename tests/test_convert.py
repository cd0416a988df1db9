# SPDX-License-Identifier: Apache-2.0
"""`inception-tf convert`, and the ways to load a file that does not fit in one of its ends."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import ramps
import tensorflow as tf

import inception_tf
from inception_tf import cli
from inception_tf.models import find
from inception_tf.weights import slim
from inception_tf.weights.view import read_view

BVLC = "weights/googlenet_bvlc_imagenet_f16_hwio.npz"


def slim_checkpoint(path, network, classes, **extra):
    """A checkpoint with slim's names and shapes by a fixed rule, and the moving averages of a trainer."""
    has_auxiliary = bool(find(network).auxiliaries)
    model = inception_tf.create_model(network, classes=classes, aux_logits=has_auxiliary)
    arrays = dict(extra)
    for path_, theirs in slim.names(find(network)).items():
        shape = tuple(next(w.shape for w in model.weights if w.path == path_))
        array = ramps.weight(path_, shape)
        arrays[theirs] = array[None, None] if len(shape) == 2 else array
        arrays[f"{theirs}/ExponentialMovingAverage"] = np.zeros(3, np.float32)
    save(path, arrays)
    return arrays


def save(path, arrays):
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """slim's Inception V1 with its 1,001 classes."""
    path = tmp_path_factory.mktemp("slim") / "inception_v1.ckpt"
    return path, slim_checkpoint(path, "inception_v1", 1001)


@pytest.fixture
def call(capfd):
    def run(*words):
        code = cli.main(["convert", *(str(word) for word in words)])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_output_says_how_to_build_the_model_and_that_line_runs(call, checkpoint, tmp_path):
    target = tmp_path / "v1.weights.h5"
    code, out, err = call("--model", "inception_v1", "--source", "slim", checkpoint[0], target)
    assert (code, err) == (0, "")
    assert "230 arrays read, 230 used." in out
    line = re.search(r"use it: (.*)", out)[1]
    assert line == (
        f"inception_tf.create_model('inception_v1', classes=1001, weights={str(target)!r})"
    )
    model = eval(line, {"inception_tf": inception_tf})
    theirs = checkpoint[1]["InceptionV1/Mixed_5b/Branch_2/Conv2d_0a_3x3/weights"]
    np.testing.assert_array_equal(model.get_layer("Mixed_5b_b2_1_conv").kernel, theirs)
    assert read_view(target).size == 224
    assert os.listdir(tmp_path) == [target.name]


def test_background_class_is_dropped_when_asked(call, checkpoint, tmp_path):
    target = tmp_path / "v1.weights.h5"
    words = ("--model", "inception_v1", "--source", "slim", "--drop-background")
    code, out, _ = call(*words, checkpoint[0], target)
    assert code == 0
    assert "classes=1000" in out
    assert "first class of 1001 dropped" in out
    model = inception_tf.InceptionV1(weights=str(target))
    bias = checkpoint[1]["InceptionV1/Logits/Conv2d_0c_1x1/biases"]
    np.testing.assert_array_equal(model.get_layer("Logits").bias, bias[1:])


def test_weights_of_the_paper_state_their_view(call, test_data, tmp_path):
    target = tmp_path / "googlenet.weights.h5"
    code, out, err = call("--model", "googlenet", "--source", "bvlc", test_data / BVLC, target)
    assert (code, err) == (0, "")
    assert "images: 224x224, crop 0.875, scale 'caffe'" in out
    model = inception_tf.GoogLeNet(weights=str(target))
    theirs = np.load(test_data / BVLC)["inception_5b/pool_proj/kernel"]
    np.testing.assert_array_equal(model.get_layer("Mixed_5c_b3_1_conv").kernel, theirs)


@pytest.mark.slow
def test_auxiliary_classifier_of_the_file_is_kept(call, tmp_path):
    slim_checkpoint(tmp_path / "inception_v3.ckpt", "inception_v3", 1001)
    target = tmp_path / "v3.weights.h5"
    words = ("--model", "inception_v3", "--source", "slim", tmp_path / "inception_v3.ckpt", target)
    code, out, _ = call(*words)
    assert code == 0
    assert "classes=1001, aux_logits=True" in out


# Refusals: exit code 2, one sentence, nothing written


@pytest.fixture
def refused(call, tmp_path):
    """Calls the command and returns its sentence, having seen that nothing was written."""

    def run(network, source, path, target="x.weights.h5", *words):
        code, out, err = call(
            "--model", network, "--source", source, *words, path, tmp_path / target
        )
        assert (code, out) == (2, "")
        assert not [name for name in os.listdir(tmp_path) if "weights.h5" in name]
        assert len(err.splitlines()) == 1
        return err

    return run


def test_one_missing_variable_fails_it(refused, checkpoint, tmp_path):
    gone = "InceptionV1/Conv2d_2b_1x1/BatchNorm/beta"
    save(tmp_path / "less.ckpt", {k: v for k, v in checkpoint[1].items() if not k.startswith(gone)})
    sentence = refused("inception_v1", "slim", tmp_path / "less.ckpt")
    assert (
        "the file lacks 1 of its variables (Conv2d_2b_1x1_bn/beta); nothing was loaded" in sentence
    )


def test_another_architecture_is_refused(refused, checkpoint):
    assert "does not fit the model 'inception_v2'" in refused("inception_v2", "slim", checkpoint[0])


def test_checkpoint_folder_is_refused_with_a_checkpoint_in_it(refused, checkpoint):
    sentence = refused("inception_v1", "slim", checkpoint[0].parent)
    assert f"is a folder; give one checkpoint in it, such as '{checkpoint[0]}'" in sentence


@pytest.mark.parametrize(
    ("source", "name"),
    [("slim", "a.ckpt"), ("timm", "a.pth"), ("bvlc", "a.npz"), ("keras", "a.h5")],
)
def test_git_lfs_pointer_is_refused(refused, tmp_path, source, name):
    (tmp_path / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 28000000\n"
    )
    network = "googlenet" if source == "bvlc" else "inception_v3"
    sentence = refused(network, source, tmp_path / name)
    assert "is a Git LFS pointer and not the file itself; fetch that with git lfs pull" in sentence


def test_other_number_of_classes_is_refused(refused, checkpoint):
    sentence = refused("inception_v1", "slim", checkpoint[0], "x.weights.h5", "--classes", "1000")
    assert (
        "has 1001 classes in the file and 1000 in the model; create the model with classes=1001, or"
        " load with drop_background=True to leave out the first of them" in sentence
    )


def test_another_ending_is_refused(refused, test_data):
    sentence = refused("googlenet", "bvlc", test_data / BVLC, "googlenet.h5")
    assert "weights are written as .weights.h5" in sentence


# Loading with other inputs and classes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = small()
    ramps.fill(model)
    path = tmp_path_factory.mktemp("own") / "v1.weights.h5"
    model.save_weights(path)
    return path, model


def small(channels=3, classes=6):
    shape = (32, 32, channels)
    return inception_tf.InceptionV1(input_shape=shape, classes=classes, width_multiplier=0.1)


def test_gray_images_give_what_they_gave_as_three_equal_channels(saved):
    path, colour = saved
    gray = small(channels=1)
    report = inception_tf.load_weights(gray, path)
    assert report.notes == ("Conv2d_1a_7x7_conv/kernel adapted from 3 to 1 input channels",)
    image = ramps.images(2, 32, 32, 1)
    expected = colour.predict_on_batch(np.repeat(image, 3, axis=-1))
    np.testing.assert_allclose(gray.predict_on_batch(image), expected, rtol=1e-4, atol=1e-6)


def test_more_channels_repeat_the_kernel_and_keep_its_sum_for_equal_channels(saved):
    path, colour = saved
    model = small(channels=6)
    inception_tf.load_weights(model, path)
    image = ramps.images(2, 32, 32, 3)
    expected = colour.predict_on_batch(image)
    found = model.predict_on_batch(np.concatenate([image, image], axis=-1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_head_is_skipped_only_when_asked(saved):
    path, theirs = saved
    model = small(classes=4)
    before = model.get_layer("Logits").kernel.numpy()
    with pytest.raises(
        inception_tf.UserError, match="has 6 classes in the file and 4 in the model"
    ):
        inception_tf.load_weights(model, path)
    report = inception_tf.load_weights(model, path, skip_head=True)
    assert set(report.missing) == {"Logits/kernel", "Logits/bias"}
    np.testing.assert_array_equal(model.get_layer("Logits").kernel, before)
    np.testing.assert_array_equal(
        model.get_layer("Mixed_5c_b0_0_conv").kernel, theirs.get_layer("Mixed_5c_b0_0_conv").kernel
    )


def test_skipping_the_head_skips_nothing_else(saved, tmp_path):
    other = inception_tf.InceptionV1(input_shape=(32, 32, 3), classes=4, width_multiplier=0.5)
    with pytest.raises(inception_tf.UserError, match="shapes differ"):
        inception_tf.load_weights(other, saved[0], skip_head=True)


def test_background_is_dropped_from_one_class_more(saved):
    path, theirs = saved
    model = small(classes=5)
    inception_tf.load_weights(model, path, drop_background=True)
    np.testing.assert_array_equal(
        model.get_layer("Logits").kernel, theirs.get_layer("Logits").kernel[:, 1:]
    )
