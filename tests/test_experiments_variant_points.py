# SPDX-License-Identifier: Apache-2.0
"""The points of a variant's curve: what is measured is what `fit` validates, and a stop leaves none out."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ctrl_c import CtrlC

from inception_tf.experiments.bn_variants import make_design
from inception_tf.experiments.short_runs import RunSettings
from inception_tf.experiments.variant_points import CurveRecorder, validation_subset
from inception_tf.training.callbacks import Stopped
from inception_tf.training.plan import make_plan
from inception_tf.training.train import train

pytestmark = pytest.mark.usefixtures("always_short")

SETTING = RunSettings(
    "digits",
    steps=50,
    size=32,
    width=0.05,
    rate_factor=10.0,
    every=22,
    validation_images=1000,
)
CONFIG = make_design(SETTING).configs["bn-x5"]


def rows(file):
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def run(out, *callbacks, resumed=False):
    points = CurveRecorder(out, make_plan(CONFIG), every=22, max_images=1000)
    train(CONFIG, out, resumed=resumed, callbacks=[points, *callbacks])
    return rows(out / "points.csv")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two passes of 44 steps."""
    out = tmp_path_factory.mktemp("points") / "run"
    run(out)
    return out


@pytest.mark.slow
def test_measuring_changes_nothing_in_the_training(whole, tmp_path):
    train(CONFIG, tmp_path / "plain")
    plain, measured = (rows(path / "history.csv") for path in (tmp_path / "plain", whole))
    for one, other in zip(plain, measured, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize("step", [21, 22])
def test_a_stop_leaves_no_point_out_and_none_twice(whole, tmp_path, step):
    with pytest.raises(Stopped):
        run(tmp_path / "run", CtrlC(0, step))
    before = rows(tmp_path / "run" / "points.csv") if step > 21 else []
    assert [row["step"] for row in before] == ["22"] * (step > 21)
    assert run(tmp_path / "run", resumed=True) == rows(whole / "points.csv")


def test_few_images_are_taken_at_even_distances():
    plan = make_plan(CONFIG)
    assert len(plan.validation) == 360
    every, some = (
        np.concatenate([targets for _, targets in validation_subset(plan, most)])
        for most in (1000, 100)
    )
    assert len(every) == 360
    assert np.array_equal(some, every[::4])
