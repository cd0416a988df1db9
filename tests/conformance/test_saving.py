# SPDX-License-Identifier: Apache-2.0
"""A saved, cloned or refilled model gives what the first one gave, without custom objects."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import inception_tf


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_keras_file_reloads_without_custom_objects(small, images, outputs, tmp_path):
    model = small()
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(outputs(reloaded, images), outputs(model, images))


def test_clone_with_the_same_weights_gives_the_same(small, images, outputs):
    model = small()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(outputs(clone, images), outputs(model, images))


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_saved_weights_come_back_by_name(small, images, outputs, tmp_path, file):
    model = small()
    other = keras.models.clone_model(model)
    (model.save if file.endswith(".keras") else model.save_weights)(tmp_path / file)
    report = inception_tf.load_weights(other, tmp_path / file)
    assert len(report.used) == len(model.weights)
    assert_same(outputs(other, images), outputs(model, images))
