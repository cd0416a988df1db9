# SPDX-License-Identifier: Apache-2.0
"""Initial weights and weight decay of every network, as the code of its authors has them."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from short_networks import shorten

from inception_tf.models import NETWORKS
from inception_tf.nn.network import build_model

# Standard deviations of kernels with this many inputs and outputs per filter.
HE = ("normal", lambda fan_in, fan_out: np.sqrt(2 / fan_in))
XAVIER = ("uniform", lambda fan_in, fan_out: np.sqrt(2 / (fan_in + fan_out)))  # slim's default
CAFFE = ("uniform", lambda fan_in, fan_out: np.sqrt(1 / fan_in))  # Caffe's XavierFiller, FAN_IN


def normal(stddev):
    # Truncated at two standard deviations, which leaves 0.8796 of it.
    return "normal", lambda fan_in, fan_out: 0.87962566 * stddev


# The first pattern that fits a kernel's path; sources: tf_slim/nets and tensorflow/models research/slim/nets,
# davidsandberg/facenet src/models/inception_resnet_v1.py, BVLC Caffe models/bvlc_googlenet/train_val.prototxt.
# No one publishes those of `inception` and `bn_inception`.
KERNELS = {
    "googlenet": [("", CAFFE)],
    "inception_v1": [("^Logits", HE), ("", normal(0.01))],
    "inception": [("", HE)],
    "bn_inception": [("", HE)],
    "inception_v2": [
        ("Conv2d_1a", normal(1.0)),
        (r"Conv2d_2b|Mixed_.*_b3_1", normal(0.1)),
        (r"Mixed_(4a|5a)_b[01]_0|Mixed_.*_b[12]_0", normal(0.09)),
        ("", HE),
    ],
    "inception_v3": [
        ("^AuxLogits/", normal(0.001)),
        ("AuxLogits_Conv2d_2a", normal(0.01)),
        ("", HE),
    ],
    "inception_v4": [("^(Aux)?Logits/", XAVIER), ("", HE)],
    "inception_resnet_v1": [("", XAVIER)],
    "inception_resnet_v2": [("", XAVIER)],
    "alexnet": [("fc6|fc7|^Logits", normal(0.005)), ("", XAVIER)],
    "vgg16": [("", XAVIER)],
}
# Biases of convolutions; those of logits are 0.
BIASES = {"googlenet": 0.2, "alexnet": 0.1}
# Terms of the published networks' weight decay: kernels, and in Inception-ResNet-v2 biases too.
TERMS = {
    "googlenet": 57 + 1 + 2 * 3,
    "inception_v1": 57 + 1,
    "inception": 69 + 1,
    "bn_inception": 69 + 1,
    "inception_v2": 68 + 1,  # not of the separable convolution
    "inception_v3": 94 + 1 + 3,
    "inception_v4": 149 + 1 + 3,
    "inception_resnet_v1": 132 + 1,
    "inception_resnet_v2": 244 + 1 + 3 + 40 + 1 + 1,  # 40 residuals with a bias, two logits
    "alexnet": 7 + 1,
    "vgg16": 15 + 1,
}


@pytest.fixture(params=NETWORKS, scope="module")
def model(request, full):
    """By default with one module of each kind."""
    keras.utils.set_random_seed(0)
    network = NETWORKS[request.param]
    return build_model(
        network if full else shorten(network),
        classes=100,
        width_multiplier=0.1,
        weight_decay=1e-4,
        aux_logits=bool(network.auxiliaries),
    )


@pytest.fixture(scope="module")
def full(pytestconfig):
    """Whether networks have all their modules."""
    return pytestconfig.option.markexpr != "not slow"


def kernels(model):
    """Each kernel's path, values, and inputs and outputs per filter; of a separable convolution both kernels."""
    for variable in model.weights:
        if variable.name.endswith("kernel"):
            *window, inputs, outputs = variable.shape
            area = int(np.prod(window))
            yield variable.path, np.asarray(variable), area * inputs, area * outputs


def test_kernels_are_drawn_as_in_the_source(model):
    drawn: dict[str, list] = {}
    for path, values, fan_in, fan_out in kernels(model):
        pattern, (law, stddev) = next(
            (pattern, rule) for pattern, rule in KERNELS[model.name] if re.search(pattern, path)
        )
        drawn.setdefault(f"{pattern} {law}", []).append(values.ravel() / stddev(fan_in, fan_out))
    assert len(drawn) == len(KERNELS[model.name])
    for rule, parts in drawn.items():
        for part in parts:
            assert np.std(part) == pytest.approx(1, abs=5 / np.sqrt(part.size)), rule
        values = np.concatenate(parts)
        # The ends of the distribution in standard deviations: the square root of 3, or 2 / 0.8796.
        end = 3**0.5 if rule.endswith("uniform") else 2 / 0.87962566
        assert 0.97 * end < np.abs(values).max() < 1.0001 * end, rule


def test_biases_begin_as_in_the_source(model):
    biases = {v.path: np.unique(v) for v in model.weights if v.name == "bias"}
    logits = {
        path: value for path, value in biases.items() if re.match("(Aux)?Logits[_0-9]*/", path)
    }
    assert set(np.concatenate(list(logits.values()))) == {0}
    for path in biases.keys() - logits.keys():
        np.testing.assert_array_equal(biases[path], np.float32(BIASES.get(model.name, 0)), path)


def test_weight_decay_has_the_terms_of_the_source(model, full):
    if full:
        assert len(model.losses) == TERMS[model.name]
    kernels = [v for v in model.weights if v.name == "kernel"]
    if model.name == "inception_resnet_v2":
        kernels += [v for v in model.weights if v.name == "bias"]
    assert len(model.losses) == len(kernels)
    expected = 1e-4 * sum(float(np.sum(np.square(v))) for v in kernels) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
