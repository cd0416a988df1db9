# SPDX-License-Identifier: Apache-2.0
"""Experiment trackers: a run's settings, the numbers of each epoch, its report and its pictures, in MLflow or trackio."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from inception_tf.config import Config
from inception_tf.errors import UserError, unknown
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.run_folder import Run

__all__ = ["TRACKERS", "TrackerCallback", "make_tracker"]

log = logging.getLogger("inception_tf")


class Tracker(ABC):
    """One tracker's way of taking what a run has to say; its package is imported when it is made."""

    package = ""  # on PyPI, and the module

    def __init__(self) -> None:
        try:
            self.module: Any = importlib.import_module(self.package)
        except ModuleNotFoundError as error:
            if error.name != self.package:
                raise
            raise UserError(
                f"training.tracker={self.package} needs {self.package}, which is not installed: pip install"
                f" {self.package}"
            ) from error

    @abstractmethod
    def start(self, run: Run, project: str, settings: Mapping[str, Any]) -> None:
        """Begins the run of a folder, or continues it."""

    @abstractmethod
    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes the numbers of an epoch."""

    @abstractmethod
    def finish(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        """Takes the final numbers, the report and the pictures, and ends the run."""

    @abstractmethod
    def stop(self) -> None:
        """Ends a run that was stopped or failed."""


class MLflow(Tracker):
    """MLflow, where MLFLOW_TRACKING_URI says, or where MLflow itself does."""

    package = "mlflow"

    def start(self, run: Run, project: str, settings: Mapping[str, Any]) -> None:
        """As `Tracker`; the folder's `mlflow.txt` has the id with which a resumed run continues."""
        self.client = self.module.MlflowClient()
        kept = run.path / "mlflow.txt"
        if kept.is_file():
            self.id = kept.read_text(encoding="utf-8").strip()
            self.client.update_run(self.id, "RUNNING")
            return
        found = self.client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self.client.create_experiment(project)
        self.id = self.client.create_run(experiment, run_name=run.path.name).info.run_id
        for name, value in settings.items():
            self.client.log_param(self.id, name, value)
        atomic_write_text(kept, f"{self.id}\n")

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Tracker`."""
        for name, value in numbers.items():
            self.client.log_metric(self.id, name, value, step=step)

    def finish(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        """As `Tracker`; files are artifacts."""
        for name, value in numbers.items():
            self.client.log_metric(self.id, name, value)
        for file in files:
            self.client.log_artifact(self.id, str(file))
        self.client.set_terminated(self.id, "FINISHED")

    def stop(self) -> None:
        """As `Tracker`."""
        self.client.set_terminated(self.id, "KILLED")


class Trackio(Tracker):
    """trackio, on this machine, below TRACKIO_DIR or where trackio itself says."""

    package = "trackio"

    def start(self, run: Run, project: str, settings: Mapping[str, Any]) -> None:
        """As `Tracker`; a resumed run continues the one of its folder's name."""
        name = run.identity() or ""
        self.module.init(
            project=project,
            name=f"{run.path.name}-{name[:8]}",
            config=dict(settings),
            resume="allow",
            embed=False,
        )

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Tracker`."""
        self.module.log(dict(numbers), step=step)

    def finish(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        """As `Tracker`; of files the pictures, for trackio has no others."""
        pictures = {f.stem: self.module.Image(str(f)) for f in files if f.suffix == ".png"}
        self.module.log({**numbers, **pictures})
        self.module.finish()

    def stop(self) -> None:
        """As `Tracker`."""
        self.module.finish()


TRACKERS: dict[str, type[Tracker]] = {kind.package: kind for kind in (MLflow, Trackio)}


class TrackerCallback(keras.callbacks.Callback):
    """Passes the rows of the history on to trackers; what fails there is said once, counted, and ends no run.

    As a context it begins the run in each tracker, and ends it, finished or stopped.

    Args:
        trackers: From `make_tracker`.
        run: The run folder.
        config: The resolved configuration.
        history: Called for the rows of the epochs so far.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        run: Run,
        config: Config,
        history: Callable[[], list[dict[str, float]]],
    ):
        super().__init__()
        self.trackers, self.run, self.config, self.history = list(trackers), run, config, history
        self.failures: dict[str, int] = {}
        self.logged = len(history())
        self.finished = False

    def __enter__(self) -> TrackerCallback:
        project = self.config.data.name.rpartition("/")[2].replace(":", "-")
        self._each("start", self.run, project, self.config.flat())
        return self

    def __exit__(self, *_: object) -> None:
        if not self.finished:
            self._each("stop")
        for package, count in self.failures.items():
            if count > 1:
                log.warning(
                    "%s failed %d times; its record of this run is not complete", package, count
                )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Logs the rows that were not yet.

        Args:
            epoch: As in Keras.
            logs: As in Keras.
        """
        rows = self.history()[self.logged :]
        self.logged += len(rows)
        for row in rows:
            numbers = {name: value for name, value in row.items() if name != "epoch"}
            self._each("log", numbers, int(row["epoch"]))

    def finish(self, report: Mapping[str, Any]) -> None:
        """Logs the scores of the result, the report and the pictures, and ends the runs.

        Args:
            report: The content of `report.json`.
        """
        numbers = {f"result_{k}": float(v) for k, v in report["result"].items()}
        files = [self.run.path / "report.json", *sorted(self.run.path.glob("*.png"))]
        self._each("finish", numbers, files)
        self.finished = True

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in self.trackers:
            try:
                # What a tracker prints is no result of the command.
                with contextlib.redirect_stdout(sys.stderr):
                    getattr(tracker, method)(*arguments)
            except Exception as error:  # of another package, which may raise anything
                if tracker.package not in self.failures:
                    first = str(error).partition("\n")[0]
                    log.warning(
                        "%s failed (%s: %s); the run continues, and later failures are counted",
                        *(tracker.package, type(error).__name__, first),
                    )
                self.failures[tracker.package] = self.failures.get(tracker.package, 0) + 1


def make_tracker(names: str | None) -> list[Tracker]:
    """Makes the trackers of `training.tracker`, before any work.

    Args:
        names: Of `TRACKERS`, separated by commas; None: none.

    Returns:
        The trackers.

    Raises:
        UserError: A name is unknown, or its package is not installed.
    """
    chosen: Iterable[str] = (name.strip() for name in (names or "").split(","))
    found = []
    for name in dict.fromkeys(filter(None, chosen)):
        if name not in TRACKERS:
            raise unknown("training.tracker", name, TRACKERS)
        found.append(TRACKERS[name]())
    return found
