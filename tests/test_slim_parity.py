# SPDX-License-Identifier: Apache-2.0
"""Our networks and the real tf_slim ones, both run on the same weights and images."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import forked
import keras
import numpy as np
import pytest
import ramps
import slim_networks

import inception_tf
from inception_tf.models import find_network
from inception_tf.weights.names import slim

# Largest difference by largest value.  float32 sums in another order, a hundred layers deep; 3e-6 was measured.
TOLERANCE = 2e-5

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("tf_slim") and importlib.util.find_spec("tf_keras")),
    reason="needs tf_slim and tf_keras, the oracle: install the development extra",
)


def run_slim(folder: Path, *jobs: str) -> None:
    # tf_slim patches modules and warns of its age: it gets a process of its own.
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    child = forked.run([slim_networks.__file__, folder, *jobs], env=hidden)
    assert child.returncode == 0, child.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("slim")
    run_slim(path, *(set(slim_networks.JOBS) - slim_networks.SLOW))
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in slim_networks.SLOW else ())
        for name in slim_networks.JOBS
    ],
)
def pair(request, folder: Path):
    """slim's results, our model with slim's weights, and the report of their loading."""
    job = slim_networks.JOBS[request.param]
    if request.param in slim_networks.SLOW:
        run_slim(folder, request.param)
    theirs = np.load(folder / f"{request.param}.npz")
    with ramps.undrawn():
        model = inception_tf.create_model(
            job.network,
            classes=job.classes,
            aux_logits=bool(find_network(job.network).auxiliaries),
            weight_decay=slim_networks.WEIGHT_DECAY,
            width_multiplier=job.arguments.get("depth_multiplier", 1.0),
        )
    report = inception_tf.load_weights(model, folder / f"{request.param}.ckpt")
    yield theirs, model, report, job
    keras.backend.clear_session(free_memory=request.param in slim_networks.SLOW)


def ends_of(theirs) -> dict[str, np.ndarray]:
    """slim's endpoints under our names: `vgg_16/conv1/conv1_1` is conv1_1, and fc8 the logits."""
    found = {key: key.rsplit("/", 1)[-1] for key in theirs.files if key.startswith("end/")}
    return {{"fc8": "Logits"}.get(name, name): theirs[key] for key, name in found.items()}


def test_every_slim_variable_has_its_name_in_slims_order(pair):
    theirs, _, _, job = pair
    assert list(slim.slim_names(find_network(job.network)).values()) == list(theirs["names"])


def test_checkpoint_is_read_without_what_the_trainer_left(pair):
    theirs, _, report, _ = pair
    assert set(report.read) == set(report.used) == set(theirs["names"])


def test_every_endpoint_equals_slims(pair):
    theirs, model, _, job = pair
    ends = inception_tf.endpoints(model)
    images = ramps.images(slim_networks.BATCH, job.size, job.size, 3)
    ours = keras.Model(model.input, ends)(images)
    errors = {name: relative_error(ours[name], end) for name, end in ends_of(theirs).items()}
    assert {find_network(job.network).backbone[-1][0], "Logits"} <= errors.keys()
    assert {name: e for name, e in errors.items() if e >= TOLERANCE} == {}


def test_logits_tell_images_and_classes_apart(pair):
    # Equal results mean little if the weights make a network that answers the same to everything.
    logits = ends_of(pair[0])["Logits"]
    assert np.std(logits, axis=1).min() > 0.1
    assert np.abs(logits[0] - logits[1]).max() > 0.1 * np.abs(logits).max()


def test_weight_decay_is_slims_half_sum(pair):
    theirs, model, _, _ = pair
    assert len(model.losses) == theirs["terms"]
    assert float(sum(model.losses)) == pytest.approx(float(theirs["loss"]), rel=1e-5)


def test_initial_values_are_drawn_as_slims(pair):
    theirs, model, _, job = pair
    slims = dict(zip(theirs["names"], theirs["initial"], strict=True))
    names = slim.slim_names(find_network(job.network))
    for layer in keras.models.clone_model(model).layers:
        for variable in layer.weights:
            mean, deviation = slims[names[variable.path]]
            # Five standard errors of both draws; slim rounds He's truncation to 1.3 where it is 1 / 0.8796 ** 2.
            error = 5 / np.sqrt(np.prod(variable.shape))
            assert np.std(variable) == pytest.approx(deviation, rel=0.005 + 2 * error, abs=1e-8)
            assert np.mean(variable) == pytest.approx(mean, abs=2 * error * deviation + 1e-8)


def test_checkpoint_fills_a_model_without_heads(folder):
    narrow = {"width_multiplier": 0.25, "include_top": False}
    model = inception_tf.InceptionV3(**narrow)
    report = inception_tf.load_weights(model, folder / "inception_v3_narrow.ckpt")
    assert len(report.used) == len(model.weights)
    assert {name.split("/")[1] for name in report.unused} == {"AuxLogits", "Logits"}


def test_checkpoint_of_another_network_is_refused(folder):
    model = inception_tf.InceptionV1(width_multiplier=0.1, classes=10)
    with pytest.raises(
        inception_tf.UserError,
        match=r"is a file of inception_v3, and the model 'inception_v1' is inception_v1",
    ):
        inception_tf.load_weights(model, folder / "inception_v3_narrow.ckpt")


def relative_error(ours, theirs) -> float:
    # slim keeps the grid of one place that we drop: (N, 1, 1, C) for (N, C).
    theirs = theirs.reshape(ours.shape)
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())
