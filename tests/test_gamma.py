# SPDX-License-Identifier: Apache-2.0
"""Gammas that the file has and the model lacks, or the reverse, and the ways in which a model comes to its own."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import ramps
import torch_file

import inception_tf
from inception_tf import models
from inception_tf.classifiers import open_classifier
from inception_tf.weights.convert import convert
from inception_tf.weights.metadata import read_metadata

SMALL = {"input_shape": (32, 32, 3), "classes": 5, "width_multiplier": 0.1, "dropout": 0.0}
TORCH = {"torch_padding": True, "batch_norm_scale": True}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """V1 with its first convolution and its first module."""
    make = models._VARIANTS["inception_v1"]

    @functools.wraps(make)
    def few(**switches):
        network = make(**switches)
        kept = ("Conv2d_1a_7x7", "Mixed_3b")
        backbone = tuple(step for step in network.backbone if step[0] in kept)
        return dataclasses.replace(network, backbone=backbone, auxiliaries=())

    monkeypatch.setitem(models._VARIANTS, "inception_v1", few)
    monkeypatch.setitem(models.NETWORKS, "inception_v1", few())


def filled(**switches):
    model = inception_tf.InceptionV1(**SMALL, **switches)
    ramps.fill(model)
    for variable in model.weights:
        if variable.path.endswith("gamma"):
            variable.assign(1 + 3 * variable)
    return model


def save(model, path):
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


def probabilities(model, training=False):
    return np.asarray(model(ramps.images(2, 32, 32, 3), training=training))


def gammas(model):
    return [variable for variable in model.weights if variable.path.endswith("_bn/gamma")]


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_without_gammas_gives_a_model_that_has_them_the_same_network(
    tmp_path, ending, strict
):
    theirs, ours = filled(), filled(batch_norm_scale=True)
    report = inception_tf.load_weights(ours, save(theirs, tmp_path / f"x{ending}"), strict=strict)
    assert report.missing == report.unused == ()
    assert report.notes == (f"the file has no gammas: the model's {len(gammas(ours))} are 1",)
    assert len(gammas(ours)) == 7
    # Keras names layers and numbers their variables: beta must not be taken for gamma.
    np.testing.assert_allclose(probabilities(ours), probabilities(theirs), rtol=1e-5)
    np.testing.assert_allclose(probabilities(ours, True), probabilities(theirs, True), rtol=1e-3)


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("strict", [True, False])
def test_gammas_are_folded_into_a_model_without_them_and_said(tmp_path, ending, strict):
    theirs, ours = filled(batch_norm_scale=True), filled()
    path = save(theirs, tmp_path / f"x{ending}")
    with pytest.warns(UserWarning, match=r"gammas folded .* with batch_norm_scale=True to keep"):
        report = inception_tf.load_weights(ours, path, strict=strict)
    assert report.missing == report.unused == ()
    np.testing.assert_allclose(probabilities(ours), probabilities(theirs), rtol=1e-3)
    assert np.abs(probabilities(ours, True) - probabilities(theirs, True)).max() > 0.01


def test_a_model_is_built_with_the_gammas_of_its_file(tmp_path):
    theirs = filled(**TORCH)
    source = tmp_path / "googlenet.safetensors"
    torch_file.write(source, torch_file.state_of(theirs, "inception_v1", torch_padding=True))
    native = save(theirs, tmp_path / "own.weights.h5")
    for path in (source, native):
        # Padding has no weights: a plain file of Keras does not tell.
        chosen = {"torch_padding": True} if path is native else {}
        model = inception_tf.create_model("inception_v1", weights=path, **SMALL, **chosen)
        for ours, variable in zip(model.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(ours, variable, err_msg=variable.path)
    assert read_metadata(native).switches == {"batch_norm_scale": True}


def test_a_switch_that_is_given_is_kept(tmp_path):
    path = save(filled(batch_norm_scale=True), tmp_path / "own.weights.h5")
    with pytest.warns(UserWarning, match="gammas folded"):
        model = inception_tf.InceptionV1(weights=path, batch_norm_scale=False, **SMALL)
    assert gammas(model) == []


@pytest.mark.parametrize("name", ["inception_v2", "inception"])
def test_a_file_of_another_network_is_refused_by_its_arrays_and_not_by_its_switches(tmp_path, name):
    path = save(filled(**TORCH), tmp_path / "own.weights.h5")
    with pytest.raises(inception_tf.UserError, match=r"inception_v1.*nothing was loaded"):
        inception_tf.create_model(name, weights=path, classes=5, width_multiplier=0.1)


def test_a_converted_file_remembers_its_gammas_where_it_is_evaluated(tmp_path):
    theirs = inception_tf.InceptionV1(classes=5, **TORCH)
    ramps.fill(theirs)
    state = torch_file.state_of(theirs, "inception_v1", torch_padding=True)
    torch_file.write(tmp_path / "theirs.safetensors", state)
    convert("inception_v1", "torchvision", tmp_path / "theirs.safetensors").save(
        tmp_path / "ours.weights.h5"
    )
    for name in ("theirs.safetensors", "ours.weights.h5"):
        opened = open_classifier(str(tmp_path / name), "inception_v1").model
        for ours, variable in zip(opened.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(ours, variable, err_msg=variable.path)


def test_folding_for_inference_takes_gammas_along():
    model = filled(batch_norm_scale=True)
    folded = inception_tf.optimize_for_inference(model)
    assert not [layer for layer in folded.layers if layer.name.endswith("_bn")]
    np.testing.assert_allclose(probabilities(folded), probabilities(model), atol=1e-4)


def test_weight_decay_leaves_gammas_alone():
    model = filled(batch_norm_scale=True)
    decayed = inception_tf.InceptionV1(batch_norm_scale=True, weight_decay=1e-3, **SMALL)
    decayed.set_weights(model.get_weights())
    kernels = [v for v in decayed.trainable_weights if v.path.endswith("/kernel")]
    expected = sum(float(np.sum(np.square(kernel))) for kernel in kernels) * 1e-3 / 2
    np.testing.assert_allclose(float(sum(decayed.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_gammas_in_float32(policy):
    model = inception_tf.InceptionV1(batch_norm_scale=True, dtype=policy, **SMALL)
    theirs = filled(batch_norm_scale=True)
    model.set_weights(theirs.get_weights())
    assert {gamma.dtype for gamma in gammas(model)} == {"float32"}
    np.testing.assert_allclose(probabilities(model), probabilities(theirs), atol=0.05)
