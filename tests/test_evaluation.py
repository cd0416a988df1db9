# SPDX-License-Identifier: Apache-2.0
"""Scores: ranks, ensembles, and that weights bring their own preprocessing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from example_files import write
from small_runs import only

import inception_tf
from inception_tf.classifiers import Classifier, open_classifier
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import Source, Split, open_source
from inception_tf.errors import UserError
from inception_tf.evaluation.alignment import align_classes
from inception_tf.evaluation.crops import crop_steps
from inception_tf.evaluation.metrics import (
    Predictions,
    accuracy_metrics,
    confusion_matrix,
    ensemble,
    in_top,
    per_class_accuracy,
    predict_split,
    wilson_interval,
)
from inception_tf.inference.forward import compiled_forward
from inception_tf.weights.metadata import WeightsMetadata, write_metadata

pytestmark = pytest.mark.usefixtures("short_networks")

LABELS = ("dark", "light")
SPLIT = Split(
    np.repeat(np.array([10, 250, 240], np.uint8), 48).reshape(3, 4, 4, 3), np.array([0, 1, 0])
)
SOURCE = Source("three", LABELS, {"test": SPLIT})


@pytest.fixture
def one_module():
    with only("inception_v1", "Conv2d_1a_7x7"):
        yield


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


def _averaged(member, images, crops):
    """The mean over all crops of an image, one image after the other."""
    steps = crop_steps(member.preprocessing, crops)
    views = (transforms.apply_steps(steps, image) for image in images)
    return [keras.ops.convert_to_numpy(member.model(batch)).mean(axis=0) for batch in views]


def test_probabilities_are_averaged_over_the_crops_after_the_softmax():
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 255, (3, 12, 20, 3), np.uint8), np.array([0, 1, 0]))
    member = _member(3.0)
    expected = _averaged(member, split.images, 10)
    for batch_size in (1, 7, 32, 300):
        found = predict_split(member, split, crops=10, batch_size=batch_size).probabilities
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=str(batch_size))


@pytest.mark.parametrize(("shape", "distinct"), [((16, 16), 48), ((12, 20), 144)])
def test_equal_crops_pass_through_the_network_once(monkeypatch, shape, distinct):
    from inception_tf.evaluation import metrics

    seen = []

    def counted(network):
        def forward(images):
            seen.append(len(images))
            return network(images).numpy()

        return forward

    monkeypatch.setattr(metrics, "compiled_forward", counted)
    images = np.random.default_rng(0).integers(0, 255, (2, *shape, 3), np.uint8)
    member = _member(3.0, size=14)
    found = predict_split(member, Split(images, np.array([0, 1])), crops=144, batch_size=25)
    assert seen == [*[25] * (distinct // 25), distinct % 25] * 2
    expected = _averaged(member, images[1:], 144)
    np.testing.assert_allclose(found.probabilities[1:], expected, rtol=1e-5)


def test_one_graph_is_made_for_batches_of_all_sizes():
    traced = []
    image = keras.Input((4, 4, 3))
    sums = keras.layers.Lambda(lambda x: traced.append(x.shape) or keras.ops.sum(x, (1, 2)))(image)
    forward = compiled_forward(keras.Model(image, sums))
    traced.clear()
    pixels = np.arange(144, dtype=np.float32).reshape(3, 4, 4, 3)
    for count in (3, 2, 1):
        np.testing.assert_allclose(forward(pixels[:count]), pixels[:count].sum((1, 2)))
    assert len(traced) == 1


def test_progress_hears_of_every_image():
    heard = []
    predict_split(_member(1.0), SPLIT, batch_size=2, on_images=heard.append)
    assert heard == [2, 1]


def test_unreadable_images_are_left_out_and_noted(class_folders):
    folder = class_folders(dark=3, light=3)
    (folder / "dark" / "1.jpg").write_bytes(b"no image")
    split = open_source(f"folder:{folder}").split("all")
    bad = BadImages(split, 0.5)
    found = predict_split(_member(5.0), split, bad=bad)
    assert len(found.classes) == 5
    assert list(bad.reasons) == [str(folder / "dark" / "1.jpg")]
    with pytest.raises(UserError, match="1 of 6 images cannot be read, more than 1.00%"):
        predict_split(_member(5.0), split)


def test_a_split_without_one_readable_image_is_refused(class_folders):
    folder = class_folders(dark=1, light=1)
    for path in folder.glob("*/*.jpg"):
        path.write_bytes(b"no image")
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
        align_classes([_member(1.0, ("a", "b", "c"))], SOURCE, SPLIT)
    with pytest.raises(UserError, match="class 1 is 'bright' in a model and 'light' in the data"):
        align_classes([_member(1.0, ("dark", "bright"))], SOURCE, SPLIT)


def test_data_without_names_may_show_fewer_classes_but_no_more(tmp_path):
    pixels = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
    write(tmp_path / "test-0", [(pixels, 1), (pixels, 3), (pixels, 1), (pixels, 3)])
    name = f"tfrecord:{tmp_path}/test-*"
    shifted, plain = open_source(name, label_offset=1), open_source(name)
    three = _member(1.0, ("a", "b", "c"))
    align_classes([three], shifted, shifted.split(), 1)
    with pytest.raises(
        UserError,
        match="a model has 3 classes and the data has class 3; with --label-offset 1 the data's",
    ):
        align_classes([three], plain, plain.split())


# A background class


def _of(classes: int, labels=None) -> Classifier:
    return Classifier(f"{classes}.ckpt", "net", None, classes, labels, Preprocessing(8))


def _numbered(*labels: int) -> Source:
    split = Split(np.zeros((len(labels), 4, 4, 3), np.uint8), np.array(labels))
    names = tuple(str(number) for number in range(max(labels) + 1))
    return Source("tfrecord:x", names, {"test": split}, named=False)


@pytest.mark.parametrize(
    ("classes", "labels", "offset", "shifts"),
    [
        # slim's file on slim's records: label 0 is the background, the file's first class.
        ([1001], (1, 998), None, [0]),
        ([1001], (0, 997), 1, [1]),  # moved by the user; today it was off by one
        ([1001], (0, 999), None, [1]),  # an image has label 0, and there are no more than 1,000
        ([1001], (0, 1000), None, [0]),  # images of the background
        ([1001], (1, 998), 0, [1]),  # the user says that 0 is a class
        ([1000], (0, 999), None, [0]),
        ([1000], (0, 997), 1, [0]),
        ([1001, 1000], (0, 997), 1, [1, 0]),
        ([1001, 1000], (1, 1000), None, [0, -1]),
        ([1000, 1001], (0, 999), None, [0, 1]),
        ([7], (0, 6), None, [0]),
    ],
)
def test_a_background_class_is_settled_for_each_network(classes, labels, offset, shifts):
    source = _numbered(*labels)
    aligned = align_classes([_of(count) for count in classes], source, source.split(), offset)
    assert [one.shift for one in aligned] == shifts
    assert all(
        bool(one.note) == (count == 1001 or one.shift != 0)
        for one, count in zip(aligned, classes, strict=True)
    )


def test_names_settle_a_background_on_both_sides():
    split = Split(np.zeros((2, 4, 4, 3), np.uint8), np.array([1, 2]))
    plain = Source("folder:x", ("a", "b", "c"), {"test": split})
    counting = Source("folder:x", ("background", "a", "b", "c"), {"test": split})
    networks = [_of(3, ("a", "b", "c")), _of(4, ("background", "a", "b", "c"))]
    assert [one.shift for one in align_classes(networks, plain, split)] == [0, 1]
    assert [one.shift for one in align_classes(networks, counting, split)] == [-1, 0]
    with pytest.raises(UserError, match="class 1 is 'c' in"):
        align_classes([_of(4, ("background", "a", "c", "b"))], plain, split)


def test_a_shifted_split_has_the_same_images():
    source = _numbered(0, 3)
    moved = source.split().shifted(1)
    assert moved.classes.tolist() == [1, 4]
    assert moved.images is source.split().images


def test_what_cannot_be_averaged_is_refused_before_an_image_is_read():
    source = _numbered(0, 3)
    with pytest.raises(UserError, match=r"cannot be averaged: 7.ckpt 7, 5.ckpt 5; evaluate them"):
        align_classes([_of(7), _of(5)], source, source.split())
    source = _numbered(0, 1000)
    with pytest.raises(UserError, match=r"label 0, the background, which 1000.ckpt does not have"):
        align_classes([_of(1001), _of(1000)], source, source.split())


def test_the_graph_of_2015_is_not_evaluated_in_an_order_that_is_not_its():
    source = _numbered(0, 3)
    with pytest.raises(
        UserError, match=r"has the 1,008 classes of the graph of 2015, in the order"
    ):
        align_classes([_of(1008)], source, source.split())


def test_members_with_and_without_a_background_are_averaged_over_the_classes_of_both():
    without = Predictions(np.array([[0.5, 0.5], [1.0, 0.0]], np.float32), np.array([0, 1]))
    having = Predictions(
        np.array([[0.2, 0.6, 0.2], [0.9, 0.05, 0.05]], np.float32), np.array([1, 2])
    )
    both = ensemble([having, without])
    np.testing.assert_allclose(both.probabilities, [[0.625, 0.375], [0.75, 0.25]], rtol=1e-6)
    assert both.classes.tolist() == [0, 1]


@pytest.mark.usefixtures("one_module")
def test_a_weights_file_is_evaluated_with_the_preprocessing_and_classes_noted_in_it(tmp_path):
    model = inception_tf.create_model("inception_v1", classes=7)
    path = tmp_path / "v1.weights.h5"
    model.save_weights(path)
    plain = open_classifier(str(path), "inception_v1")
    assert (plain.preprocessing, plain.classes) == (Preprocessing(224, 0.875, "unit"), 7)
    prepared = Preprocessing(96, 0.9, "caffe", "bicubic")
    write_metadata(path, WeightsMetadata(preprocessing=prepared))
    noted = open_classifier(str(path), "inception_v1")
    assert noted.preprocessing == Preprocessing(96, 0.9, "caffe", "bicubic")
    assert noted.model.input_shape == (None, 96, 96, 3)
    x = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    same = inception_tf.create_model("inception_v1", classes=7, input_shape=(96, 96, 3))
    same.load_weights(path)
    np.testing.assert_allclose(noted.model(x), same(x), rtol=1e-5)


@pytest.mark.usefixtures("one_module")
def test_a_file_without_a_classifier_is_refused(tmp_path):
    path = tmp_path / "body.weights.h5"
    inception_tf.create_model("inception_v1", include_top=False).save_weights(path)
    with pytest.raises(UserError, match="holds no classifier, and so names no classes"):
        open_classifier(str(path), "inception_v1")
