# SPDX-License-Identifier: Apache-2.0
"""The common ground of the small experiments: trials that are kept, the report, its page, the loop and its data."""

from __future__ import annotations

import dataclasses
import json
import signal
from functools import partial
from types import SimpleNamespace

import forked
import keras
import numpy as np
import pytest

from inception_tf import cli
from inception_tf.cli.studies import HELP
from inception_tf.errors import UserError
from inception_tf.experiments import arrays, loop, study
from inception_tf.experiments.catalog import EXPERIMENTS, Experiment, StudySettings
from inception_tf.experiments.page import Column, report_page, table_cells
from inception_tf.experiments.study import Study, Summary, mean_and_spread, run_study, seeds_of

SETTING = StudySettings("digits", steps=7, seeds=2)
DIGITS = {"train": 1437, "test": 360}


def silent(line):
    """Progress that no test reads."""


def square(trials):
    """An experiment whose trials are functions."""

    def summarize(results):
        rows = [{"kind": "all", **mean_and_spread("x", (r["x"] for r in results.values()))}]
        columns = (Column("kind", "kind"), Column("x", "x", 2))
        return Summary(columns, rows, {"it is so": True}, lambda figure: figure.subplots())

    return Study(DIGITS, trials, summarize)


def run_in(out, trials, setting=SETTING):
    experiment = SimpleNamespace(
        name="square", source="a test", make_study=lambda: lambda _: square(trials)
    )
    return run_study(experiment, setting, out, silent)


@pytest.fixture
def run(tmp_path):
    return partial(run_in, tmp_path / "out")


def stopped():
    raise KeyboardInterrupt


def test_a_stopped_experiment_resumes_at_the_trial_that_was_under_way(run, tmp_path):
    done = []

    def counted(x):
        def compute():
            done.append(x)
            return {"x": x}

        return compute

    with pytest.raises(KeyboardInterrupt, match="stopped; 1 of 2 trials are saved; the same comm"):
        run({"a": counted(1.0), "b": stopped})
    assert not (tmp_path / "out" / "report.json").exists()
    report = run({"a": counted(1.0), "b": counted(3.0)})
    assert done == [1.0, 3.0]
    assert report["rows"] == [{"kind": "all", "x": 2.0, "x_sd": pytest.approx(2**0.5)}]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"figure.png", "report.json", "settings.json", "table.md", "trials"}
    assert run({"a": stopped, "b": stopped})["rows"] == report["rows"]  # nothing is computed again


def test_each_kind_is_trained_with_each_seed():
    trials = [("a.0", "a", 0), ("b.0", "b", 0), ("a.1", "a", 1), ("b.1", "b", 1)]
    assert seeds_of(SETTING, ["a", "b"]) == trials


KILLED = """
import os, signal, sys
from pathlib import Path
from test_experiments_study import run_in

killed = lambda: os.kill(os.getpid(), signal.SIGKILL)
run_in(Path(sys.argv[1]), {"a": lambda: {"x": 1.0}, "b": killed})
"""


def test_a_killed_trial_leaves_nothing_behind(run, tmp_path):
    child = forked.run(["-c", KILLED, tmp_path / "out"])
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert [path.name for path in (tmp_path / "out" / "trials").iterdir()] == ["a.json"]
    run({"a": stopped, "b": lambda: {"x": 2.0}})


def test_other_settings_in_the_same_folder_are_refused(run):
    run({"a": lambda: {"x": 1.0}})
    with pytest.raises(UserError, match=r"out was started with steps 7, not 8; repeat the options"):
        run({"a": stopped}, dataclasses.replace(SETTING, steps=8))


def test_a_damaged_trial_is_named(run, tmp_path):
    run({"a": lambda: {"x": 1.0}})
    (tmp_path / "out" / "trials" / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"trials/a.json is damaged; remove it, and the same comm"):
        run({"a": stopped})


def test_two_processes_do_not_share_a_folder(run, tmp_path):
    with (
        study.lock_folder(tmp_path / "out", "works in"),
        pytest.raises(UserError, match="runs an experiment in"),
    ):
        run({"a": stopped})


def test_a_number_is_a_mean_with_its_sample_deviation():
    assert mean_and_spread("x", [1.0, 3.0]) == {"x": 2.0, "x_sd": pytest.approx(2**0.5)}
    assert mean_and_spread("x", [1.0]) == {"x": 1.0, "x_sd": None}
    assert mean_and_spread("x", [1.0, None]) == {"x": None, "x_sd": None}


def test_the_table_shows_spread_percent_and_what_is_missing():
    columns = [Column("a", "a", 1, percent=True), Column("b", "b", 0), Column("c", "c")]
    rows = [{"a": 0.5, "a_sd": 0.0125, "b": 1234.0, "c": None}, {"a": "word", "b": 1234, "c": True}]
    assert table_cells(columns, rows) == [["50.0 ± 1.2 %", "1,234", "-"], ["word", "1,234", "yes"]]


def test_each_page_quotes_its_report_to_the_letter(root):
    """The pages' numbers are from the files that the commands wrote."""
    index = (root / "docs/experiments/README.md").read_text(encoding="utf-8")
    for name in EXPERIMENTS:
        report = json.loads((root / f"docs/experiments/{name}.json").read_text(encoding="utf-8"))
        page = (root / f"docs/experiments/{name}.md").read_text(encoding="utf-8")
        assert report_page(report) in page, name
        assert f"| [{name}]({name}.md) |" in index
        default = EXPERIMENTS[name].default
        ran = {key: report["setting"][key] for key in ("steps", "seeds")}
        assert ran == {"steps": default.steps, "seeds": default.seeds}, name
        assert "![" in page
        assert f"]({name}.png)" in page
        assert (root / f"docs/experiments/{name}.png").is_file()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_help_of_an_experiment_says_what_it_shows(name, capfd):
    assert cli.main(["experiment", name, "--help"]) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert EXPERIMENTS[name].shows in told
    assert EXPERIMENTS[name].source in told
    assert f"inception-tf experiment {name} --out runs/{name}" in told
    assert "{" not in told, HELP


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", "0"), "invalid value for '--steps': 0 is not in the range x>=1"),
        (("--data", "digit"), "unknown data 'digit'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path, capfd, words, sentence):
    code = cli.main(["experiment", "bn-outside", "--out", str(tmp_path / "out"), *words])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_settings_are_checked_in_python_too():
    with pytest.raises(UserError, match="seeds must be 1 or more, got 0"):
        StudySettings("digits", steps=1, seeds=0)
    assert isinstance(next(iter(EXPERIMENTS.values())), Experiment)


def test_the_images_in_memory_are_those_of_the_source():
    from sklearn.datasets import load_digits

    data = arrays.load_arrays("digits", 8)
    assert data.counts == DIGITS
    levels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    theirs = np.concatenate([levels[..., None]] * 3, axis=-1)
    ours = np.concatenate([data.images, data.test_images])
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))


def test_data_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(arrays, "LIMIT", 1 << 18)
    with pytest.raises(UserError, match=r"digits take 0.0 GiB of memory at 9 pixels, and the exp"):
        arrays.load_arrays("digits", 9)


def linear(seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 3))
    return keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(images)))


def test_the_loop_gives_a_row_at_each_measurement_and_the_seed_decides_all():
    data = arrays.load_arrays("digits", 8)
    setting = loop.LoopSettings(steps=65, batch_size=30, every=30, seed=1)

    def rows(**changes):
        changed = dataclasses.replace(setting, **changes)
        return loop.train_loop(linear(), keras.optimizers.SGD(0.02), data, changed)

    found = rows()
    assert [row["step"] for row in found] == [0, 30, 60, 65]
    assert found[0]["loss"] is None
    assert found[-1]["test_accuracy"] > 0.5 > found[0]["test_accuracy"]
    assert rows() == found
    assert rows(every=65)[-1]["test_loss"] == found[-1]["test_loss"]  # measuring changes nothing
    assert rows(augment=True)[-1]["loss"] != found[-1]["loss"]


def test_the_loop_ends_where_the_loss_is_no_longer_finite():
    data = arrays.load_arrays("digits", 8)
    setting = loop.LoopSettings(steps=40, batch_size=30, every=10, seed=0)
    rows = loop.train_loop(linear(), keras.optimizers.SGD(1e38), data, setting)
    assert rows[-1]["loss"] is None
    assert rows[-1]["step"] < 40


def test_crops_move_by_up_to_four_pixels_and_flip_half_of_the_images():
    image = np.arange(100, dtype=np.uint8).reshape(1, 10, 10, 1)
    images = np.repeat(image, 200, axis=0)
    moved = loop.random_crops(images, np.array([0, 1], np.int32)).numpy()
    padded = np.pad(image[0, :, :, 0], 4, mode="reflect")
    windows = {
        padded[y : y + 10, x : x + 10][:, ::flip].tobytes(): flip
        for y in range(9)
        for x in range(9)
        for flip in (1, -1)
    }
    flips = [windows[one.tobytes()] for one in moved]
    assert 70 < flips.count(-1) < 130
    assert len({one.tobytes() for one in moved}) > 80
