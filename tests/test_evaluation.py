# SPDX-License-Identifier: Apache-2.0
"""Scores: ranks, ensembles, and that weights bring their own preprocessing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from example_files import write

import inception_tf
from inception_tf.classifiers import check_classes, open_classifier
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import Source, Split, open_source
from inception_tf.errors import UserError
from inception_tf.evaluation.metrics import (
    Classifier,
    Predictions,
    accuracy_metrics,
    confusion_matrix,
    ensemble,
    in_top,
    per_class_accuracy,
    predict_split,
    wilson_interval,
)
from inception_tf.weights.metadata import write_preprocessing

pytestmark = pytest.mark.usefixtures("short_networks")

LABELS = ("dark", "light")
SPLIT = Split(
    np.repeat(np.array([10, 250, 240], np.uint8), 48).reshape(3, 4, 4, 3), np.array([0, 1, 0])
)
SOURCE = Source("three", LABELS, {"test": SPLIT})


def _member(weight, labels=LABELS, scale="unit", size=4):
    """Says `light` for bright images: the sigmoid of `weight` times the mean value that it is fed."""
    image = keras.Input((size, size, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    dense = keras.layers.Dense(len(labels), "softmax", kernel_initializer="zeros")
    model = keras.Model(image, dense(mean))
    dense.kernel.assign(np.array([[0.0] * (len(labels) - 1) + [weight]] * 3))
    preprocessing = Preprocessing(size, None, scale)
    return Classifier("a model", "toy", model, len(labels), labels, preprocessing)


def test_a_class_is_in_the_top_k_by_its_score_and_ties_count_against():
    rows = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    classes = np.array([1, 2, 0])
    assert in_top(rows, classes, 1).tolist() == [False, True, False]
    assert in_top(rows, classes, 2).tolist() == [True, True, False]
    assert in_top(np.full((1, 1000), 1e-3), np.array([0]), 5).tolist() == [False]


def test_scores_are_shares_of_the_images():
    result = dict(accuracy_metrics(predict_split(_member(5.0), SPLIT)))
    assert (result["top1"], result["top5"], result["images"]) == (pytest.approx(2 / 3), 1.0, 3)
    assert result["top1_interval"] == list(wilson_interval(2, 3))


@pytest.mark.parametrize(
    ("right", "of", "expected"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_interval_is_wilsons(right, of, expected):
    assert wilson_interval(right, of) == pytest.approx(expected, abs=5e-5)
    low, high = wilson_interval(of - right, of)
    assert (1 - high, 1 - low) == pytest.approx(expected, abs=5e-5)


def test_an_ensemble_averages_probabilities_of_networks_of_other_sizes():
    sure, doubtful = predict_split(_member(5.0), SPLIT), predict_split(_member(-0.5, size=9), SPLIT)
    mean = (sure.probabilities + doubtful.probabilities) / 2
    np.testing.assert_allclose(ensemble([sure, doubtful]).probabilities, mean, rtol=1e-6)
    expected = float(in_top(mean, SPLIT.classes, 1).mean())
    assert dict(accuracy_metrics(ensemble([sure, doubtful])))["top1"] == expected
    assert dict(accuracy_metrics(doubtful))["top1"] != expected


@pytest.mark.parametrize("crops", [10, 144])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 300])
def test_probabilities_are_averaged_over_the_crops_after_the_softmax(crops, batch_size):
    from inception_tf.data.decoding import images
    from inception_tf.evaluation.crops import crop_steps

    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 255, (3, 12, 20, 3), np.uint8), np.array([0, 1, 0]))
    member = _member(3.0)
    found = predict_split(member, split, crops=crops, batch_size=batch_size).probabilities
    views = [
        images.apply_steps(crop_steps(member.preprocessing, crops), image) for image in split.images
    ]
    expected = [keras.ops.convert_to_numpy(member.model(batch)).mean(axis=0) for batch in views]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_progress_hears_of_every_image():
    heard = []
    predict_split(_member(1.0), SPLIT, batch_size=2, on_images=heard.append)
    assert heard == [2, 1]


def test_unreadable_images_are_left_out_and_noted(class_folders):
    folder = class_folders(dark=3, light=3)
    (folder / "dark" / "1.png").write_bytes(b"")
    split = open_source(f"folder:{folder}").split("all")
    bad = BadImages(split, 0.5)
    found = predict_split(_member(5.0), split, bad=bad)
    assert len(found.classes) == 5
    assert list(bad.reasons) == [str(folder / "dark" / "1.png")]
    with pytest.raises(UserError, match="1 of 6 images cannot be read, more than 1.00%"):
        predict_split(_member(5.0), split)


def test_a_split_without_one_readable_image_is_refused(class_folders):
    folder = class_folders(dark=1, light=1)
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"")
    split = open_source(f"folder:{folder}").split("all")
    with pytest.raises(UserError, match="none of the 2 images can be read"):
        predict_split(_member(5.0), split, bad=BadImages(split, 1.0))


def test_accuracy_by_class_and_confusion_count_the_same_images():
    found = Predictions(
        np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.7, 0.2, 0.1]], np.float32),
        np.array([0, 2, 2]),
    )
    assert list(per_class_accuracy(found)) == [(0, 1, 1.0, 1.0), (2, 2, 0.0, 1.0)]
    assert confusion_matrix(found).tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_other_classes_are_refused_by_number_and_by_name():
    with pytest.raises(UserError, match="a model has 3 classes and the data has 2"):
        check_classes(_member(1.0, ("a", "b", "c")), SOURCE, SPLIT)
    with pytest.raises(UserError, match="class 1 is 'bright' in a model and 'light' in the data"):
        check_classes(_member(1.0, ("dark", "bright")), SOURCE, SPLIT)


def test_data_without_names_may_show_fewer_classes_but_no_more(tmp_path):
    pixels = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
    write(tmp_path / "test-0", [(pixels, 1), (pixels, 3)])
    name = f"tfrecord:{tmp_path}/test-*"
    shifted, plain = open_source(name, label_offset=1), open_source(name)
    three = _member(1.0, ("a", "b", "c"))
    check_classes(three, shifted, shifted.split())
    with pytest.raises(
        UserError,
        match="a model has 3 classes and the data has class 3; with --label-offset 1 the data's",
    ):
        check_classes(three, plain, plain.split())


def test_a_weights_file_is_evaluated_with_the_preprocessing_and_classes_noted_in_it(tmp_path):
    model = inception_tf.create_model("inception_v1", classes=7, width_multiplier=1.0)
    path = tmp_path / "v1.weights.h5"
    model.save_weights(path)
    plain = open_classifier(str(path), "inception_v1")
    assert (plain.preprocessing, plain.classes) == (Preprocessing(224, 0.875, "unit"), 7)
    write_preprocessing(path, Preprocessing(96, 0.9, "caffe", "bicubic"))
    noted = open_classifier(str(path), "inception_v1")
    assert noted.preprocessing == Preprocessing(96, 0.9, "caffe", "bicubic")
    assert noted.model.input_shape == (None, 96, 96, 3)
    x = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    same = inception_tf.create_model("inception_v1", classes=7, input_shape=(96, 96, 3))
    same.load_weights(path)
    np.testing.assert_allclose(noted.model(x), same(x), rtol=1e-5)


def test_a_file_without_a_classifier_is_refused(tmp_path):
    path = tmp_path / "body.weights.h5"
    inception_tf.create_model("inception_v1", include_top=False).save_weights(path)
    with pytest.raises(UserError, match="holds no classifier; evaluate takes weights that have"):
        open_classifier(str(path), "inception_v1")
