# SPDX-License-Identifier: Apache-2.0
"""Our networks and those of keras.applications give the same on the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf.models import find_network
from inception_tf.weights import transfer
from inception_tf.weights.names import keras_applications

SIDE, CLASSES = 139, 1000
BUILDERS = {  # network → Keras' builder, its last grid
    "inception_v3": (keras.applications.InceptionV3, "mixed10"),
    "inception_resnet_v2": (keras.applications.InceptionResNetV2, "conv_7b_ac"),
}


@pytest.fixture(
    scope="module",
    params=["inception_v3", pytest.param("inception_resnet_v2", marks=pytest.mark.slow)],
)
def pair(request):
    arguments = {"weights": None, "input_shape": (SIDE, SIDE, 3), "classes": CLASSES}
    build, grid = BUILDERS[request.param]
    with ramps.undrawn():
        # An instance built second has other numbers in its layers' names.
        build(weights=None, include_top=False, input_shape=(75, 75, 3))
        theirs = build(**arguments, classifier_activation=None)
        ours = inception_tf.create_model(request.param, **arguments, classifier_activation=None)
    ramps.fill(theirs)
    arrays = keras_applications.keras_arrays(theirs)
    names = keras_applications.keras_names(find_network(request.param), arrays)
    report = transfer.assign(ours, arrays, names)
    yield theirs, ours, report, grid
    keras.backend.clear_session(free_memory=request.param != "inception_v3")


def test_every_variable_is_copied(pair):
    theirs, ours, report, _ = pair
    assert len(report.used) == len(theirs.weights) == len(ours.weights)


def test_logits_equal_those_of_keras_applications(pair):
    theirs, ours, _, _ = pair
    images = ramps.images(2, SIDE, SIDE, 3)
    expected, found = theirs(images).numpy(), ours(images).numpy()
    assert expected.std(axis=1).min() > 0.1  # the weights do not make the answer trivial
    # The same layers in the same order of sums: only the thread that adds may differ.
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_last_grid_equals_that_of_keras_applications(pair):
    theirs, ours, _, grid = pair
    images = ramps.images(1, SIDE, SIDE, 3)
    last = find_network(ours.name).backbone[-1][0]
    expected, found = (
        keras.Model(model.input, model.get_layer(name).output)(images).numpy()
        for model, name in ((theirs, grid), (ours, last))
    )
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_network_that_keras_lacks_is_refused():
    with pytest.raises(
        inception_tf.UserError, match="unknown network of keras.applications 'inception_v1'"
    ):
        keras_applications.keras_names(find_network("inception_v1"), [])
