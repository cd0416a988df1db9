# SPDX-License-Identifier: Apache-2.0
"""BVLC's real GoogLeNet weights on real ImageNet images: the one full check of the paper's network."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import ramps
import tensorflow as tf

import inception_tf
from inception_tf.models import find_network
from inception_tf.weights.formats.stored import EVERYTHING
from inception_tf.weights.names import bvlc

WEIGHTS = "weights/googlenet_bvlc_imagenet_f16_hwio.npz"

# Percent on all 650 images by an independent forward pass, ../shared/data/README.md.
TOP1, TOP5 = 78.92, 95.38
SOME = 130


@pytest.fixture(scope="module")
def model(test_data):
    with ramps.undrawn():
        model = inception_tf.GoogLeNet(classifier_activation=None)
    report = inception_tf.load_weights(model, test_data / WEIGHTS)
    assert len(report.used) == len(report.read) == 116
    assert (report.unused, report.missing, report.mismatched) == ((), (), ())
    return model


def percent(model, test_data, count) -> tuple[float, float]:
    """Top-1 and top-5 of the first images: the middle 224 pixels of 227, blue first, mean taken off."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),  # 0 is background
    }

    def example(record):
        read = tf.io.parse_single_example(record, features)
        image = tf.io.decode_jpeg(read["image/encoded"], channels=3)[1:225, 1:225, ::-1]
        mean = tf.constant([104.0, 117.0, 123.0])
        return tf.cast(image, tf.float32) - mean, read["image/class/label"] - 1

    files = sorted(map(str, (test_data / "imagenet_val650").glob("validation-*")))
    hits = []
    for images, classes in tf.data.TFRecordDataset(files).take(count).map(example).batch(65):
        logits = model.predict_on_batch(images)
        right = np.take_along_axis(logits, classes.numpy()[:, None], axis=1)
        rank = (logits > right).sum(axis=1)
        hits += [(place < 1, place < 5) for place in rank]
    assert len(hits) == count
    return tuple(100 * np.mean(hits, axis=0))


def test_some_real_images_are_recognized(model, test_data):
    # Three standard errors of 130 images drawn from those 650: 9.6 and 5.0 points.
    top1, top5 = percent(model, test_data, SOME)
    assert top1 == pytest.approx(TOP1, abs=9.6)
    assert top5 == pytest.approx(TOP5, abs=5.0)


@pytest.mark.slow
def test_all_real_images_score_as_in_an_independent_forward_pass(model, test_data):
    top1, top5 = percent(model, test_data, 650)
    assert top1 == pytest.approx(TOP1, abs=0.5)
    assert top5 == pytest.approx(TOP5, abs=0.5)


def test_weights_fit_no_other_network(test_data):
    with pytest.raises(
        inception_tf.UserError,
        match=r"^model 'inception_v1' is not one of the networks of BVLC; known: googlenet; create",
    ):
        inception_tf.load_weights(inception_tf.InceptionV1(), test_data / WEIGHTS)


def test_flattened_grid_of_an_auxiliary_classifier_gets_its_sides_back(tmp_path):
    # Caffe's fully connected layers read channel, row, column, one after another.
    flat = np.arange(128 * 4 * 4 * 2, dtype=np.float32).reshape(-1, 2)
    np.savez(tmp_path / "fc.npz", **{"loss1/fc/kernel": flat})
    kernel = bvlc.read_bvlc(str(tmp_path / "fc.npz"), EVERYTHING, 2**30)["loss1/fc/kernel"]
    assert kernel.shape == (4, 4, 128, 2)
    assert kernel[1, 2, 77, 1] == flat[77 * 16 + 1 * 4 + 2, 1]


def test_auxiliary_classifiers_have_names():
    names = bvlc.bvlc_names(find_network("googlenet"))
    assert names["AuxLogits_1_Conv2d_1b_1x1_conv/kernel"] == "loss1/conv/kernel"
    assert names["AuxLogits_2_Conv2d_2a_4x4_conv/bias"] == "loss2/fc/bias"
    assert names["AuxLogits_2/kernel"] == "loss2/classifier/kernel"


# Bad input


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_truncated_file_is_refused(test_data, tmp_path, kept):
    path = tmp_path / "cut.npz"
    whole = (test_data / WEIGHTS).read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(inception_tf.UserError, match="is damaged or not a .npz file"):
        bvlc.read_bvlc(str(path), EVERYTHING, 2**30)


def test_pickled_objects_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return shutil.copy, (__file__, str(tmp_path / "ran"))

    np.savez(tmp_path / "trap.npz", **{"conv1/7x7_s2/kernel": np.array([Trap()], object)})
    with pytest.raises(inception_tf.UserError, match="has objects, which can run code"):
        bvlc.read_bvlc(str(tmp_path / "trap.npz"), EVERYTHING, 2**30)
    assert not (tmp_path / "ran").exists()


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(inception_tf.UserError, match="^no weights file at"):
        bvlc.read_bvlc(str(tmp_path / "none.npz"), EVERYTHING, 2**30)
