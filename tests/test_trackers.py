# SPDX-License-Identifier: Apache-2.0
"""Experiment trackers: real ones where they are installed, on this machine alone, and what a failure of theirs costs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging

import pytest

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.run_folder import Run
from inception_tf.training.trackers import TRACKERS, TrackerCallback, make_tracker

ROWS = [{"epoch": 1, "loss": 0.5, "val_top1": 0.25}, {"epoch": 2, "loss": 0.25, "val_top1": 0.5}]
CONFIG = Config().override(["data.name='folder:/data/photos'", "training.tracker=trackio"])
REPORT = {"result": {"epoch": 2, "val_top1": 0.5}}


@pytest.fixture
def run(tmp_path):
    """A run folder with a report and a picture."""
    from PIL import Image

    run = Run(tmp_path / "runs" / "photos")
    run.write_config(CONFIG, "0123456789abcdef")
    (run.path / "report.json").write_text(json.dumps(REPORT))
    Image.new("RGB", (8, 8)).save(run.path / "curves.png")
    return run


def track(trackers, run, rows=ROWS):
    """A run of these epochs."""
    history = []
    tracked = TrackerCallback(trackers, run, CONFIG, lambda: history)
    with tracked:
        for row in rows:
            history.append(row)
            tracked.on_epoch_end(row["epoch"] - 1)
        tracked.finish(REPORT)
    return tracked


def test_trackio_has_settings_epochs_and_pictures(run, tmp_path, monkeypatch, capsys):
    for name in ("TRACKIO_DIR", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    tracked = track(make_tracker("trackio"), run)
    assert tracked.failures == {}
    assert capsys.readouterr().out == ""
    [found] = trackio.Api().runs("photos")
    assert found.name == "photos-01234567"
    assert found.config["optimizer.learning_rate"] == 0.001
    rows = SQLiteStorage.get_logs("photos", found.name)
    assert [row["val_top1"] for row in rows if "val_top1" in row] == [0.25, 0.5]
    assert any(row.get("result_val_top1") == 0.5 and "curves" in row for row in rows)


def test_mlflow_has_settings_epochs_and_files_and_continues(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    history = ROWS[:1]
    stopped = TrackerCallback(make_tracker("mlflow"), run, CONFIG, lambda: history)
    stopped.logged = 0
    with contextlib.suppress(KeyboardInterrupt), stopped:
        stopped.on_epoch_end(0)
        raise KeyboardInterrupt
    client = mlflow.MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("photos").experiment_id])
    assert found.info.status == "KILLED"
    assert track(make_tracker("mlflow"), run, ROWS[1:]).failures == {}
    [found] = client.search_runs([found.info.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "photos")
    assert found.data.params["optimizer.learning_rate"] == "0.001"
    told = client.get_metric_history(found.info.run_id, "val_top1")
    assert [(one.step, one.value) for one in told] == [(1, 0.25), (2, 0.5)]
    assert found.data.metrics["result_val_top1"] == 0.5
    files = {one.path for one in client.list_artifacts(found.info.run_id)}
    assert files == {"report.json", "curves.png"}


def test_a_package_that_is_missing_and_a_name_that_is_unknown_are_sentences():
    with pytest.raises(UserError, match="unknown training.tracker 'mlfow'.*did you mean 'mlflow'"):
        make_tracker("mlfow")
    assert make_tracker(None) == []
    for name in TRACKERS:
        if importlib.util.find_spec(name) is None:
            with pytest.raises(UserError, match=f"is not installed: pip install {name}"):
                make_tracker(f"{name}, {name}")


class Broken:
    """A tracker whose disk is full."""

    package = "broken"

    def __getattr__(self, name):
        raise OSError("no space left")


def test_a_tracker_that_fails_ends_no_run_and_is_said_once_and_counted(run, caplog):
    with caplog.at_level(logging.WARNING, "inception_tf"):
        tracked = track([Broken()], run)
    assert tracked.failures == {"broken": 4}  # start, two epochs, finish
    assert [record.getMessage() for record in caplog.records] == [
        "broken failed (OSError: no space left); the run continues, and later failures are counted",
        "broken failed 4 times; its record of this run is not complete",
    ]
