# SPDX-License-Identifier: Apache-2.0
"""A saved, cloned or refilled model gives what the first one gave, without custom objects."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import inception_tf

pytestmark = pytest.mark.kinds


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_keras_file_reloads_without_custom_objects(small, images, outputs, tmp_path):
    model = small()
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(outputs(reloaded, images), outputs(model, images))


def test_saved_weights_come_back_into_a_clone_by_name(small, images, outputs, tmp_path):
    model = small()
    clone = keras.models.clone_model(model)
    model.save_weights(tmp_path / "model.weights.h5")
    report = inception_tf.load_weights(clone, tmp_path / "model.weights.h5")
    assert len(report.used) == len(model.weights)
    assert list(inception_tf.endpoints(clone)) == list(inception_tf.endpoints(model))
    assert_same(outputs(clone, images), outputs(model, images))
