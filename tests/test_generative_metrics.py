# SPDX-License-Identifier: Apache-2.0
"""Inception score, KID, precision and recall: of sets where they are known, and of the tools' own numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from other_packages import INTERPRETER

from inception_tf import UserError
from inception_tf.generative import (
    CONVENTIONS,
    FeatureStatistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    metrics,
    precision_recall,
)
from inception_tf.generative.conventions import differences, find_convention
from inception_tf.generative.draws import kernel_subsets

HERE = Path(__file__).parent / "generative"
sys.path.insert(0, str(HERE))

from feature_sets import sets, wide_sets  # noqa: E402

DATA = sets()
KERNEL = CONVENTIONS["torch-fidelity"].kernel
SUBSETS = {"subsets": 5, "subset_size": 100}  # of generative/record.py


# Known sets


def test_equal_predictions_score_1_and_certain_ones_the_number_of_classes():
    assert inception_score(np.zeros((40, 6))).mean == pytest.approx(1, abs=1e-12)
    rule = replace(CONVENTIONS["torch-fidelity"].inception_score, splits=1)
    certain = inception_score(1000 * np.eye(6).repeat(10, axis=0), rule)
    assert certain.mean == pytest.approx(6, rel=1e-12)
    # Half of the images certain, half uniform, of 2 classes: exp of the mean of log 2 and 0.
    half = np.concatenate([1000 * np.eye(2).repeat(10, axis=0), np.zeros((20, 2))])
    assert inception_score(half, rule).mean == pytest.approx(2**0.5, rel=1e-12)


def test_the_score_of_splits_is_their_mean_and_deviation():
    rule = replace(CONVENTIONS["torch-fidelity"].inception_score, splits=3)
    scores = [
        inception_score(
            DATA["logits"][np.random.RandomState(2020).permutation(235)[a:b]],
            replace(rule, splits=1),
        ).mean
        for a, b in ((0, 78), (78, 156), (156, 235))
    ]
    found = inception_score(DATA["logits"], rule)
    assert (found.mean, found.deviation) == (
        pytest.approx(np.mean(scores)),
        pytest.approx(np.std(scores)),
    )
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / 3**0.5)


def test_kid_of_samples_of_one_distribution_is_zero_within_its_error():
    random = np.random.RandomState(0)
    first, second = random.normal(size=(2, 200, 8))
    # Subsets of all images: one value, whose deviation over repetitions is known from these.
    rule = replace(KERNEL, subsets=1, subset_size=200)
    same = kernel_distance(first, second, rule)
    repeated = [kernel_distance(*random.normal(size=(2, 200, 8)), rule).mean for _ in range(25)]
    assert abs(same.mean) < 4 * np.std(repeated)
    assert abs(np.mean(repeated)) < 4 * np.std(repeated) / 25**0.5  # unbiased
    assert kernel_distance(first, second + 0.3, rule).mean > 10 * np.std(repeated)


def test_kid_of_points_of_known_kernel_values():
    # gamma = 1, kernel (x y + 1)³: of 0 and 1 it is 1, 1 and 8.
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [1.0]])
    found = kernel_distance(x, y, replace(KERNEL, subsets=1, subset_size=2))
    assert found.mean == pytest.approx(1 + 8 - 2 * (1 + 1 + 8 + 8) / 4)


def test_given_subsets_are_used():
    pairs = [(np.arange(5), np.arange(5)), (np.arange(5, 12), np.arange(7))]
    found = kernel_distance(DATA["first"], DATA["second"], subsets=iter(pairs))
    rule = replace(KERNEL, subsets=1)
    each = [
        kernel_distance(
            DATA["first"][one], DATA["second"][two], replace(rule, subset_size=len(one))
        ).mean
        for one, two in pairs
    ]
    assert (found.mean, found.subsets) == (pytest.approx(np.mean(each)), 2)


def test_precision_and_recall_of_points_on_a_line():
    # Balls reach to the 1st neighbor.  Real: 0, 1 and 10, radii 1, 1, 9.  Generated: 0.5, 3, radii 2.5, 2.5.
    real, generated = np.array([[0.0], [1.0], [10.0]]), np.array([[0.5], [30.0], [30.5]])
    rule = replace(CONVENTIONS["torch-fidelity"].neighbors, neighbors=1)
    found = precision_recall(generated, real, rule)
    assert (found.precision, found.recall) == (1 / 3, 1)  # 0.5's ball reaches 30
    turned = precision_recall(real, generated, rule)
    assert (turned.precision, turned.recall) == (1, 1 / 3)
    assert found.f_score == pytest.approx(0.5)


def test_a_set_lies_within_itself_and_far_sets_do_not():
    one = DATA["first"]
    same = precision_recall(one, one)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = precision_recall(one + 1000, one)
    assert (far.precision, far.recall, far.density, far.coverage, far.f_score) == (0, 0, 0, 0, 0)


def test_copies_of_an_image_hold_each_other():
    # Of 6 copies the balls have no radius, for 3 and for 5 neighbors.
    copies = np.repeat(DATA["first"][:40] + np.float32(0.1), 6, axis=0)
    found = precision_recall(copies[::6].repeat(6, axis=0)[::-1], copies)
    assert (found.precision, found.recall) == (1, 1)
    assert (found.density, found.coverage) == (0, 0)  # strictly inside
    wide = wide_sets()["wide first"].astype(float)
    (squared,) = metrics._squared_distances(wide[:60], wide[:60].copy())
    assert not np.diagonal(squared).any()
    assert (squared + np.eye(60) > 0.5).all()


def test_density_and_coverage_by_all_distances():
    generated, real = DATA["first"].astype(float), DATA["second"].astype(float)
    distances = np.sqrt(((real[:, None] - generated) ** 2).sum(axis=2))
    radii = np.sort(np.sqrt(((real[:, None] - real) ** 2).sum(axis=2)), axis=1)[:, 5]
    inside = distances < radii[:, None]
    found = precision_recall(generated, real)
    assert found.density == pytest.approx(inside.sum() / (5 * len(generated)), abs=1e-12)
    assert found.coverage == pytest.approx((distances.min(axis=1) < radii).mean(), abs=1e-12)
    assert found.density_error == pytest.approx(
        (inside.sum(axis=0) / 5).std() / len(generated) ** 0.5, rel=1e-9
    )
    share = found.precision
    assert found.precision_error == pytest.approx((share * (1 - share) / len(generated)) ** 0.5)


def test_blocks_do_not_change_the_neighbors(monkeypatch):
    whole = precision_recall(DATA["first"], DATA["second"])
    monkeypatch.setattr(metrics, "BLOCK", 37)
    rows = []
    blocks = precision_recall(DATA["first"], DATA["second"], on_rows=rows.append)
    assert blocks == whole
    assert max(rows) == 37
    assert sum(rows) == 2 * (330 + 310)


# Errors


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: inception_score(np.zeros((9, 5))), "at least 10 images, one per split, got 9"),
        (lambda: inception_score(np.full((20, 5), np.nan)), "the logits have NaN"),
        (lambda: inception_score(np.zeros(20)), r"must have the shape \(N, D\)"),
        (
            lambda: kernel_distance(DATA["first"], DATA["second"]),
            "KID takes subsets of 1,000 images, and a set has only 310",
        ),
        (lambda: kernel_distance(DATA["first"], DATA["logits"]), "of 24 and of 12 features"),
        (lambda: precision_recall(DATA["first"], DATA["second"][:3]), "more than 3 images"),
        (lambda: precision_recall(DATA["first"] * np.inf, DATA["second"]), "NaN or infinity"),
        (lambda: find_convention("torch_fidelity"), "unknown tool.*did you mean 'torch-fidelity'"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_has_no_value_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()


# The tools' own numbers of the same sets: generative/record.py


@pytest.fixture(
    scope="module", params=["recorded", pytest.param("installed", marks=pytest.mark.slow)]
)
def tools(request):
    """What the four tools computed, and compute where they are installed."""
    if request.param == "recorded":
        return json.loads((HERE / "tools.json").read_text())
    python = os.environ.get(INTERPRETER)
    if not python:
        pytest.skip(f"{INTERPRETER} is not set: the Python of an environment with the four tools")
    command = [python, str(HERE / "record.py"), "--print"]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout
    )


def statistics_of(name: str) -> FeatureStatistics:
    made = FeatureStatistics()
    made.update(DATA[name])
    return made


@pytest.mark.parametrize("tool", CONVENTIONS)
def test_fid_is_that_of_each_tool(tools, tool):
    form = CONVENTIONS[tool].form
    found = frechet_distance(statistics_of("first"), statistics_of("second"), form=form)
    assert found == pytest.approx(tools[tool]["fid"], rel=2e-6)
    few = [statistics_of(f"few of {name}") for name in ("first", "second")]
    found = frechet_distance(*few, form=form, allow_singular=True)
    assert found == pytest.approx(tools[tool]["fid of few"], rel=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("tools", ["installed"], indirect=True)
def test_fid_of_768_features_is_that_of_the_tools(tools):
    pair = [FeatureStatistics(), FeatureStatistics()]
    for one, features in zip(pair, wide_sets().values(), strict=True):
        one.update(features)
    for tool, expected in tools["wide"].items():
        assert frechet_distance(*pair) == pytest.approx(expected, rel=1e-5), tool


@pytest.mark.parametrize("tool", ["torch-fidelity", "torchmetrics"])
def test_the_inception_score_is_that_of_each_tool(tools, tool):
    found = inception_score(DATA["logits"], CONVENTIONS[tool].inception_score)
    theirs = tools[tool]["inception score"]
    theirs = list(theirs.values()) if isinstance(theirs, dict) else theirs
    assert found.mean == pytest.approx(theirs[0], rel=1e-6)
    assert found.deviation == pytest.approx(theirs[1], rel=1e-5)  # torchmetrics' in float32


@pytest.mark.parametrize("tool", ["torch-fidelity", "clean-fid", "torchmetrics"])
def test_kid_is_that_of_each_tool_with_the_subsets_that_it_draws(tools, tool):
    rule = replace(CONVENTIONS[tool].kernel, **SUBSETS)
    found = kernel_distance(DATA["first"], DATA["second"], rule)
    theirs = tools[tool]["kid"]
    if tool == "clean-fid":
        assert found.mean == pytest.approx(theirs, rel=1e-4)
        few = kernel_distance(DATA["few of first"], DATA["second"], rule)
        assert few.mean == pytest.approx(tools[tool]["kid of few"], rel=1e-4)
        assert few.subset_size == 20
    else:
        theirs = list(theirs.values()) if isinstance(theirs, dict) else theirs
        assert [found.mean, found.deviation] == pytest.approx(theirs, rel=1e-4)


def test_precision_and_recall_are_those_of_torch_fidelity(tools):
    found = precision_recall(DATA["first"], DATA["second"])
    theirs = tools["torch-fidelity"]["precision and recall"]
    for name in ("precision", "recall", "f_score"):
        assert getattr(found, name) == pytest.approx(theirs[name], abs=1e-6)
    assert found.precision != found.recall


def test_the_conventions_state_each_tools_version_and_defaults(tools):
    for name, convention in CONVENTIONS.items():
        assert convention.version == tools[name]["version"]
    theirs = tools["torch-fidelity"]["defaults"]
    one = CONVENTIONS["torch-fidelity"]
    assert one.inception_score.splits == theirs["isc_splits"]
    assert one.neighbors.neighbors == theirs["prc_neighborhood"]
    assert theirs["rng_seed"] == metrics.SEED
    names = ("subsets", "subset_size", "degree", "gamma", "coef")
    kernel = [getattr(one.kernel, name) for name in names]
    keys = ("kid_subsets", "kid_subset_size")
    keys += tuple(f"kid_kernel_poly_{name}" for name in ("degree", "gamma", "coef0"))
    assert kernel == [theirs[key] for key in keys]
    theirs = tools["torchmetrics"]["defaults"]
    one = CONVENTIONS["torchmetrics"]
    assert [getattr(one.kernel, name) for name in names] == theirs["kid"]
    assert one.inception_score.splits == theirs["splits"]
    clean = CONVENTIONS["clean-fid"].kernel
    assert [clean.subsets, clean.subset_size] == tools["clean-fid"]["defaults"]["kid"]
    assert len(tools["pytorch-fid"]["defaults"]["endings"]) == 9
    assert len({e.lower() for e in tools["clean-fid"]["defaults"]["endings"]}) == 10


# The table


def test_every_difference_between_two_tools_is_in_words():
    tool = CONVENTIONS["torch-fidelity"]
    assert differences(tool, tool) == ()
    named = {line.split(":")[0] for line in differences(tool, CONVENTIONS["torchmetrics"])}
    assert named == {"resize", "images", "mean", "inception score", "KID", "precision and recall"}
    named = {line.split(":")[0] for line in differences(tool, CONVENTIONS["pytorch-fid"])}
    assert {"resize", "scale", "mean", "singular covariance"} < named


@pytest.mark.parametrize("draws", ["numpy", "torch"])
def test_no_image_is_twice_in_a_subset(draws):
    rule = replace(KERNEL, draws=draws, subsets=3)
    for pair in kernel_subsets(rule, (40, 30), 30, 0):
        assert [len(np.unique(one)) for one in pair] == [30, 30]
        assert pair[0].max() < 40
        assert pair[1].max() < 30
