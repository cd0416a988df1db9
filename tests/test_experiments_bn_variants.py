# SPDX-License-Identifier: Apache-2.0
"""The BN paper's variants: their rates as they truly ran, Figure 3's arithmetic, taking up, and what diverges."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from ctrl_c import CtrlC
from small_runs import only

import inception_tf
from inception_tf import cli
from inception_tf.cli.experiment import VARIANT_NAMES
from inception_tf.errors import UserError
from inception_tf.experiments.bn_variants import VARIANTS, make_design
from inception_tf.experiments.short_runs import RunSettings, train_runs
from inception_tf.experiments.variant_outcomes import (
    ENDED,
    PAPER,
    Curve,
    chance_bound,
    figure3_rows,
)
from inception_tf.experiments.variant_points import CurveRecorder
from inception_tf.experiments.variant_report import write_report
from inception_tf.run_folder import Run
from inception_tf.training.callbacks import Stopped
from inception_tf.training.plan import make_plan

pytestmark = pytest.mark.usefixtures("always_short")

# 44 steps a pass over the embedded digits.
TINY = RunSettings(
    "digits",
    steps=50,
    size=32,
    width=0.05,
    rate_factor=10.0,
    every=30,
    validation_images=360,
)
PAIR = ("inception", "bn-x5")
STEPS = ("Conv2d_1a_7x7",)
FILES = ("figure2.csv", "figure2.png", "figure3.csv", "report.json")


def run(out, setting=TINY, names=PAIR, callbacks=()):
    """The names of the variants that were trained, of networks of one module."""
    plan, trained = make_design(setting), []

    def before(name, config):
        trained.append(name)
        return callbacks

    wanted = {name: plan.configs[name] for name in names}
    with only("inception", *STEPS), only("bn_inception", *STEPS):
        train_runs(wanted, out, setting, before=before, after=lambda: write_report(plan, out))
    if not trained:
        write_report(plan, out)
    return trained


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A finished experiment of two variants."""
    out = tmp_path_factory.mktemp("variants")
    assert run(out) == list(PAIR)
    return out


def rows(file):
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_command_offers_the_variants_of_the_experiment():
    assert tuple(variant.name for variant in VARIANTS) == VARIANT_NAMES
    assert set(PAPER) | {"inception-x5", "inception-sigmoid"} == set(VARIANT_NAMES)


def test_all_rates_are_the_papers_times_one_factor():
    # Ioffe and Szegedy 2015, section 4.2.2.
    paper = {
        "inception": 0.0015,
        "bn-baseline": 0.0015,
        "bn-x5": 0.0075,
        "bn-x30": 0.045,
        "bn-x5-sigmoid": 0.0075,
        "inception-x5": 0.0075,
        "inception-sigmoid": 0.0015,
    }
    plan = make_design(dataclasses.replace(TINY, rate_factor=4.0))
    rates = {name: config.optimizer.learning_rate for name, config in plan.configs.items()}
    assert rates == pytest.approx({name: 4 * rate for name, rate in paper.items()})


def test_the_variants_share_data_order_length_and_number_format():
    shared = (
        *("data.name", "data.batch_size", "data.box_area", "data.flip"),
        *("training.seed", "training.epochs", "training.precision"),
        *("model.size", "model.width_multiplier"),
    )
    plan = make_design(dataclasses.replace(TINY, seed=3))
    told = {tuple(str(config.flat()[key]) for key in shared) for config in plan.configs.values()}
    assert told == {
        ("digits", "32", "[0.25, 1.0]", "True", "3", "2", "float32", "32", "0.05"),
    }
    assert plan.steps == 88


def test_the_failing_networks_differ_from_inception_in_one_setting():
    plan = make_design(TINY)
    flat = {name: config.flat() for name, config in plan.configs.items()}

    def changed(name):
        return {k: v for k, v in flat[name].items() if flat["inception"][k] != v}

    assert changed("inception-x5") == {"optimizer.learning_rate": pytest.approx(0.075)}
    assert changed("inception-sigmoid") == {"model.activation": "sigmoid"}


def test_gaussian_initial_weights_are_those_of_all_variants_and_of_the_networks():
    plan = make_design(dataclasses.replace(TINY, initial_deviation=0.02))
    for name, config in plan.configs.items():
        plain = make_design(TINY).configs[name].model.switches
        assert dict(config.model.switches) == {**plain, "initial_deviation": 0.02}
    kernel = inception_tf.Inception(initial_deviation=0.02).get_layer("Conv2d_1a_7x7_conv").kernel
    drawn = np.asarray(kernel).ravel()
    # A normal distribution that is cut off at two of its deviations keeps 0.88 of one.
    assert drawn.std() == pytest.approx(0.88 * 0.02, rel=0.02)
    assert abs(drawn.mean()) < 0.001
    with pytest.raises(UserError, match="initial_deviation must be above 0, got 0"):
        inception_tf.Inception(initial_deviation=0)


def test_a_run_holds_the_rate_it_was_trained_with(pair):
    last = {name: float(rows(pair / name / "history.csv")[-1]["learning_rate"]) for name in PAIR}
    rates = {name: Run(pair / name).config().optimizer.learning_rate for name in PAIR}
    assert rates == {"inception": 0.015, "bn-x5": 0.075}
    # 150 passes of the paper in two of 44 steps: 4 % less every 8, or every 8/6 (59 whole steps).
    fall = 0.96 ** (6e6 * 32 / 1_281_167 / 2)
    assert last == pytest.approx(
        {"inception": 0.015 * fall ** (2 / 8), "bn-x5": 0.075 * fall ** (88 / 59)}, rel=1e-4
    )


def test_at_the_end_of_a_pass_it_is_what_fit_validates(pair):
    points, history = (
        {row["step"]: row for row in rows(pair / "bn-x5" / name)}
        for name in ("points.csv", "history.csv")
    )
    point, end = points["88"], history["88"]
    assert float(point["val_top1"]) == float(end["val_top1"])
    assert float(point["learning_rate"]) == pytest.approx(float(end["learning_rate"]))
    # fit's loss has the weights' penalty in it.
    assert 0 < float(point["val_loss"]) <= float(end["val_loss"])


def test_points_after_the_step_that_is_gone_on_from_are_measured_again(pair, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(pair / "bn-x5", out)
    points = CurveRecorder(out, make_plan(Run(out).config()), every=30, max_images=1000)
    points.set_params({"steps": 44})
    points.on_train_begin()
    points.on_epoch_begin(1)  # a process that was killed in the second pass
    assert [row["step"] for row in points.rows] == ["30"]
    points.set_params({"steps": 14})
    points.on_epoch_begin(0)  # and one that was stopped after the measured step
    assert [row["step"] for row in points.rows] == ["30"]
    points.set_params({"steps": 20})
    points.on_epoch_begin(0)  # and one that was stopped after 24 steps
    assert points.rows == []


def test_the_files_hold_all_points_and_a_row_a_variant(pair):
    assert all((pair / name).stat().st_size for name in FILES)
    points = rows(pair / "figure2.csv")
    assert list(points[0]) == ["variant", "step", "val_top1", "val_loss", "learning_rate"]
    # Each 30 steps, across the end of a pass at 44, and at the end.
    assert [(point["variant"], int(point["step"])) for point in points] == [
        (name, step) for name in PAIR for step in (30, 60, 88)
    ]
    table = rows(pair / "figure3.csv")
    assert [row["variant"] for row in table] == list(PAIR)
    assert (table[1]["paper_steps"], table[1]["paper_best_accuracy"]) == ("2100000.0", "0.73")


def test_the_report_tells_setting_rule_rates_machine_and_time(pair):
    report = json.loads((pair / "report.json").read_text(encoding="utf-8"))
    assert report["setting"] == dataclasses.asdict(TINY)
    assert "one factor" in report["rule"]
    assert report["rates"]["bn-x30"] == pytest.approx(0.45)
    assert (report["batch_size"], report["steps"]) == (32, 88)
    assert report["images"] == {"train": 1437, "validation": 360}
    assert report["complete"] is False
    assert report["seconds"] > 0
    assert len(report["machines"]) == len(report["environments"]) == 1
    assert {"tensorflow", "keras", "commit"} <= set(report["environments"][0])


def test_a_finished_variant_is_not_trained_again_and_all_is_drawn_anew(pair, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(pair, out)
    for name in FILES:
        (out / name).unlink()
    assert run(out) == []
    for name in ("figure2.csv", "figure3.csv", "report.json"):
        assert (out / name).read_bytes() == (pair / name).read_bytes()


@pytest.mark.slow
def test_a_stop_within_a_variant_changes_nothing(pair, tmp_path):
    out = tmp_path / "stopped"
    shutil.copytree(pair / "bn-x5", out / "bn-x5")
    with pytest.raises(Stopped):
        run(out, callbacks=[CtrlC(1, 20)])
    assert not (out / "inception" / ENDED).exists()
    # Only the one that was stopped, and from where it was.
    seen = CtrlC(99, 0)
    assert run(out, callbacks=[seen]) == ["inception"]
    assert seen.epoch == 1
    for name in ("figure2.csv", "figure3.csv"):
        assert (out / name).read_bytes() == (pair / name).read_bytes()


def test_another_setting_in_the_folder_is_refused_in_a_sentence(pair, capsys):
    options = ["--data", "digits", "--steps", "50", "--width", "0.05", "--size", "48"]
    assert cli.main(["experiment", "bn-variants", "--out", str(pair), *options]) == 2
    assert capsys.readouterr().err == (
        f"inception-tf: {pair / 'inception'} was trained with model.size 32, not 48; repeat the options"
        " that it started with, or use another --out\n"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--data", "digit"), "unknown data 'digit'"),
        (("--data", "digits", "--width", "0"), "model.width_multiplier must be above 0"),
        (("--data", "digits", "--rate-factor", "-1"), "optimizer.learning_rate must be above 0"),
        (("--data", "digits", "--size", "16"), "at least 32x32 pixels"),
        (("--data", "digits", "--steps", "0"), "0 is not in the range x>=1"),
        (("--only", "bn-x6"), "'bn-x6' is not one of"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, sentence, tmp_path, capsys):
    out = str(tmp_path / "none")
    assert cli.main(["experiment", "bn-variants", "--out", out, *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error.splitlines()[-1]
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_variant_that_diverges_is_told_and_the_rest_goes_on(tmp_path, capsys):
    only = ("--only", "inception-x5", "--only", "inception-sigmoid")
    options = (*("--data", "digits", "--steps", "1", "--width", "0.05"), "--quick", *only)
    arguments = ["experiment", "bn-variants", "--out", str(tmp_path), *options]
    # So high that the first step leaves weights near the largest float32.
    assert cli.main([*arguments, "--rate-factor", "1e36"]) == 0
    told = capsys.readouterr().out
    table = {row["variant"]: row for row in rows(tmp_path / "figure3.csv")}
    ended = json.loads((tmp_path / "inception-x5" / ENDED).read_text(encoding="utf-8"))
    assert table["inception-x5"]["outcome"] == "diverged"
    assert int(table["inception-x5"]["diverged_at"]) == ended["diverged_at"] > 0
    assert "not finite" in ended["why"]
    assert (tmp_path / "inception-sigmoid" / ENDED).is_file()
    assert "inception-x5" in told
    assert "diverged" in told
    # Called again, neither is trained again.
    assert cli.main([*arguments, "--rate-factor", "1e36"]) == 0
    assert "steps" not in capsys.readouterr().err


def curve(name, *accuracies, ended=True, diverged_at=None):
    points = tuple({"step": 100.0 * n, "val_top1": a} for n, a in enumerate(accuracies, 1))
    return Curve(name, 0.1, points, {"diverged_at": diverged_at} if ended else None)


def test_steps_are_counted_to_the_baselines_best():
    curves = [
        curve("inception", 0.2, 0.4, 0.6, 0.6, 0.5),
        curve("bn-x5", 0.6, 0.5, 0.7, 0.7, 0.65),
        curve("bn-x30", 0.1, 0.59, 0.599, 0.4),
        curve("bn-baseline", 0.3, 0.65, ended=False),
    ]
    table = {row["variant"]: row for row in figure3_rows(curves, bound=0.12)}
    steps = {name: row["steps_to_baseline_best"] for name, row in table.items()}
    assert steps == {"inception": 300, "bn-x5": 100, "bn-x30": None, "bn-baseline": 200}
    fewer = {name: row["times_fewer_steps"] for name, row in table.items()}
    assert fewer == {"inception": 1, "bn-x5": 3, "bn-x30": None, "bn-baseline": 1.5}
    best = {name: (row["best_accuracy"], row["best_step"]) for name, row in table.items()}
    assert best["inception"] == (0.6, 300)
    assert best["bn-x5"] == (0.7, 300)
    assert table["bn-x30"]["last_accuracy"] == 0.4
    assert table["bn-baseline"]["outcome"] == "under way"


def test_the_papers_numbers_stand_beside():
    # Ioffe and Szegedy 2015, Figure 3.
    table = {row["variant"]: row for row in figure3_rows([curve(n, 0.5) for n in PAPER], 0.1)}
    told = {n: (row["paper_steps"], row["paper_best_accuracy"]) for n, row in table.items()}
    assert told == {
        "inception": (31.0e6, 0.722),
        "bn-baseline": (13.3e6, 0.727),
        "bn-x5": (2.1e6, 0.730),
        "bn-x30": (2.7e6, 0.748),
        "bn-x5-sigmoid": (None, 0.698),
    }
    assert table["bn-x5"]["paper_times_fewer_steps"] == pytest.approx(14.76, abs=0.01)


@pytest.mark.parametrize(
    ("one", "outcome"),
    [
        (curve("x", 0.1, 0.3), "learned"),
        (curve("x", 0.1, 0.12), "at chance"),
        (curve("x", 0.3, 0.1), "fell to chance"),
        (curve("x", 0.3, diverged_at=140), "diverged"),
        (curve("x", diverged_at=14), "diverged"),
        (curve("x", ended=False), "under way"),
        (curve("x", 0.3, ended=False), "under way"),
    ],
)
def test_what_became_of_a_variant(one, outcome):
    assert one.outcome(bound=0.12) == outcome


def test_chance_is_the_most_frequent_class_and_three_standard_deviations():
    assert chance_bound([200] * 10) == pytest.approx(0.1 + 3 * (0.1 * 0.9 / 2000) ** 0.5)
    assert chance_bound([30, 10]) == pytest.approx(0.75 + 3 * (0.75 * 0.25 / 40) ** 0.5)


def test_without_the_baseline_no_steps_are_counted():
    (row,) = figure3_rows([curve("bn-x5", 0.2, 0.5)], bound=0.12)
    assert (row["steps_to_baseline_best"], row["times_fewer_steps"]) == (None, None)


def test_a_mistake_in_the_data_is_no_divergence(tmp_path):
    plan = make_design(TINY)
    missing = plan.configs["inception"].override(["data.name=folder:nowhere"])
    with pytest.raises(UserError, match="nowhere"):
        train_runs({"inception": missing}, tmp_path, TINY, before=lambda *_: (), after=lambda: None)
    assert not (tmp_path / "inception" / ENDED).exists()
