# SPDX-License-Identifier: Apache-2.0
"""Passes over data end with their last batch: tf.data's tuner, which sleeps, is off where it has nothing to find."""

from __future__ import annotations

import pytest
import tensorflow as tf

from inception_tf.data import tuning
from inception_tf.data.tuning import untuned
from inception_tf.training.plan import make_plan
from inception_tf.training.recipes import read_recipe


@pytest.mark.parametrize(("cores", "expected"), [(1, False), (16, False), (17, None), (64, None)])
def test_the_tuner_is_off_where_every_core_has_a_thread(monkeypatch, cores, expected):
    monkeypatch.setattr(tuning, "usable_cores", lambda: cores)
    numbers = untuned(tf.data.Dataset.range(5))
    assert numbers.options().autotune.enabled is expected
    assert list(numbers.as_numpy_iterator()) == list(range(5))


def test_training_and_validation_are_not_tuned(monkeypatch):
    monkeypatch.setattr(tuning, "usable_cores", lambda: 2)
    plan = make_plan(read_recipe("digits").override(["model.name=inception_v1"]))
    for batches in (plan.training_data(), plan.validation_data()):
        assert batches.options().autotune.enabled is False
