# SPDX-License-Identifier: Apache-2.0
"""Scores: ranks, ensembles, and that weights bring their own preprocessing."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import inception_tf
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources import Split
from inception_tf.errors import UserError
from inception_tf.evaluation.members import open_member
from inception_tf.evaluation.scores import Member, in_top, probabilities, scores
from inception_tf.weights.view import write_view

LABELS = ("dark", "light")
SPLIT = Split(
    np.repeat(np.array([10, 250, 240], np.uint8), 48).reshape(3, 4, 4, 3), np.array([0, 1, 0])
)


def _member(weight, labels=LABELS, scale="unit"):
    """Says `light` for bright images: the sigmoid of `weight` times the mean value that it is fed."""
    image = keras.Input((4, 4, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    dense = keras.layers.Dense(len(labels), "softmax", kernel_initializer="zeros")
    model = keras.Model(image, dense(mean))
    dense.kernel.assign(np.array([[0.0] * (len(labels) - 1) + [weight]] * 3))
    return Member("a model", model, labels, Preprocessing(4, None, scale))


def test_a_class_is_in_the_top_k_by_its_score_and_ties_count_against():
    rows = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    classes = np.array([1, 2, 0])
    assert in_top(rows, classes, 1).tolist() == [False, True, False]
    assert in_top(rows, classes, 2).tolist() == [True, True, False]
    assert in_top(np.full((1, 1000), 1e-3), np.array([0]), 5).tolist() == [False]


def test_scores_are_shares_of_the_images():
    result = dict(scores([_member(5.0)], SPLIT, LABELS))
    assert result == {"top1": pytest.approx(2 / 3), "top5": 1.0, "images": 3, "skipped": 0}


def test_an_ensemble_averages_probabilities():
    sure, doubtful = _member(5.0), _member(-0.5)
    mean = (probabilities(sure, SPLIT) + probabilities(doubtful, SPLIT)) / 2
    expected = float(in_top(mean, SPLIT.classes, 1).mean())
    assert dict(scores([sure, doubtful], SPLIT, LABELS))["top1"] == expected
    assert dict(scores([doubtful], SPLIT, LABELS))["top1"] != expected


def test_other_classes_are_refused_by_number_and_by_name():
    with pytest.raises(UserError, match="a model has 3 classes and the data has 2"):
        list(scores([_member(1.0, ("a", "b", "c"))], SPLIT, LABELS))
    with pytest.raises(UserError, match="class 1 is 'bright' in a model and 'light' in the data"):
        list(scores([_member(1.0, ("dark", "bright"))], SPLIT, LABELS))


def test_a_weights_file_is_evaluated_with_the_preprocessing_noted_in_it(tmp_path):
    model = inception_tf.create_model("inception_v1", classes=2)
    path = tmp_path / "v1.weights.h5"
    model.save_weights(path)
    plain = open_member(str(path), model="inception_v1", labels=LABELS)
    assert plain.view == Preprocessing(224, 0.875, "unit")
    write_view(path, Preprocessing(224, 0.9, "caffe", "bicubic"))
    noted = open_member(str(path), model="inception_v1", labels=LABELS)
    assert noted.view == Preprocessing(224, 0.9, "caffe", "bicubic")
    fed = next(iter(_fed(noted)))
    np.testing.assert_allclose(fed[0, 0], [10 - 104, 10 - 117, 10 - 123], atol=0.01)


def _fed(member):
    from inception_tf.data import pipeline

    for images, _ in pipeline.evaluation(SPLIT, member.view, classes=2, batch_size=3):
        yield images.numpy()[0]
