# SPDX-License-Identifier: Apache-2.0
"""Losses with a weight for each class, against Keras' own class weights and scikit-learn's balance."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps
from sklearn.utils.class_weight import compute_class_weight

from inception_tf.config import Config
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError
from inception_tf.training.losses import class_weights, make_loss

LABELS = ("cat", "dog", "emu")
WEIGHTS = (0.5, 2.0, 0.0)
CLASSES = np.array([0, 1, 1, 2, 0, 1])
SPLIT = Split(np.zeros((6, 1, 1, 3), np.uint8), CLASSES)
LOGITS = 3 * ramps.uniform("logits", (6, 3))
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]


def training(**settings):
    return (
        Config().override([f"training.{key}={value}" for key, value in settings.items()]).training
    )


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}])
def test_class_weights_are_those_of_keras_fit(settings):
    plain = make_loss(training(**settings), None)
    weighted = make_loss(training(**settings), WEIGHTS)
    expected = plain(ONE_HOT, LOGITS, sample_weight=np.array(WEIGHTS)[CLASSES])
    np.testing.assert_allclose(weighted(ONE_HOT, LOGITS), expected, rtol=1e-6)
    assert float(expected) != pytest.approx(float(plain(ONE_HOT, LOGITS)))


def test_a_mixture_of_two_classes_counts_as_they_do():
    mixed = np.array([[0.25, 0.75, 0.0]], np.float32)
    plain, weighted = make_loss(training(), None), make_loss(training(), WEIGHTS)
    ratio = float(weighted(mixed, LOGITS[:1])) / float(plain(mixed, LOGITS[:1]))
    assert ratio == pytest.approx(0.25 * 0.5 + 0.75 * 2.0)


def test_focal_loss_is_its_papers_formula():
    found = make_loss(training(focal_gamma=2.0), None)(ONE_HOT, LOGITS)
    exps = np.exp(LOGITS.astype(np.float64))
    right = (exps / exps.sum(-1, keepdims=True))[np.arange(6), CLASSES]
    np.testing.assert_allclose(found, np.mean(-((1 - right) ** 2) * np.log(right)), rtol=1e-5)


def test_balanced_weights_are_scikit_learns():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=CLASSES)
    np.testing.assert_allclose(class_weights("balanced", SPLIT, LABELS), expected)
    assert class_weights("balanced", SPLIT, (*LABELS, "fox"))[3] == 0
    assert class_weights(None, SPLIT, LABELS) is None


def test_classes_are_weighted_by_name():
    assert class_weights({"dog": 3}, SPLIT, LABELS) == (1.0, 3.0, 1.0)
    assert class_weights({3: 2.5}, SPLIT, ("2", "3")) == (1.0, 2.5)


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"dgo": 2.0}, "did you mean 'dog'?"),
        ({"dog": -1.0}, "training.class_weights of 'dog' must be at least 0, got -1.0"),
        ({"dog": float("nan")}, "must be at least 0, got nan"),
        (dict.fromkeys(LABELS, 0), "0 of all classes, so that no weight would change"),
        ({"dog": "two"}, "must be at least 0, got 'two'"),
        ("balance", "did you mean 'balanced'?"),
    ],
)
def test_a_wrong_weight_is_one_sentence(chosen, sentence):
    with pytest.raises(UserError) as error:
        class_weights(chosen, SPLIT, LABELS)
    assert sentence in str(error.value)


def test_the_loss_is_what_it_was_after_its_configuration_was_written():
    made = make_loss(training(focal_gamma=1.5), WEIGHTS)
    again = keras.losses.deserialize(keras.losses.serialize(made))
    assert float(again(ONE_HOT, LOGITS)) == float(made(ONE_HOT, LOGITS))
