# SPDX-License-Identifier: Apache-2.0
"""A small experiment as trials: each computed once and kept in a file, then one table, one figure, one report."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_tf.errors import UserError
from inception_tf.experiments.catalog import Experiment, StudySettings
from inception_tf.experiments.page import Column, report_page
from inception_tf.host.atomic_io import atomic_path, atomic_write_text, remove_unfinished
from inception_tf.host.environment import environment
from inception_tf.host.files import read_text
from inception_tf.host.hardware import device_name
from inception_tf.host.locks import lock_folder
from inception_tf.host.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Study", "Summary", "mean_and_spread", "run_study", "seeds_of"]

TRIALS, SETTINGS = "trials", "settings.json"


@dataclass(frozen=True)
class Summary:
    """What an experiment found."""

    columns: Sequence[Column]  # of the table
    rows: Sequence[
        Mapping[str, Any]
    ]  # by the columns' keys; a key with `_sd` is the spread of the one without
    holds: Mapping[str, bool]  # a statement of the documents → whether it holds here
    draw: Callable[[Figure], None]  # fills an empty figure


@dataclass(frozen=True)
class Study:
    """An experiment with its settings: what is computed, and how its results are summarized."""

    images: Mapping[str, int]  # of each split
    trials: Mapping[str, Callable[[], dict]]  # name of a file → the computation of its JSON
    summarize: Callable[[Mapping[str, dict]], Summary]  # of the results by the trials' names
    size: tuple[float, float] = (11.5, 3.8)  # of the figure, inches


def run_study(
    experiment: Experiment,
    setting: StudySettings,
    out: Path,
    log: Callable[[str], None],
) -> dict:
    """Runs the trials that `out` does not hold yet, and writes the files of the experiment.

    `trials/NAME.json` appears whenever a trial is complete; `figure.png`, `report.json` and `table.md`, what the
    page of the experiment quotes, when all are.

    Args:
        experiment: one of the catalog.
        setting: its settings.
        out: the folder, made where it is missing.
        log: called with lines of progress.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: a setting or the data is wrong, `out` is another experiment's, or a process works in it already.
        KeyboardInterrupt: Ctrl-C, with the number of complete trials.
    """
    study = experiment.make_study()(setting)
    figure = new_figure("experiment", *study.size)  # a missing matplotlib is reported now
    with lock_folder(out, "runs an experiment in"):
        (out / TRIALS).mkdir(parents=True, exist_ok=True)
        for folder in (out, out / TRIALS):
            remove_unfinished(folder)
        _check_settings(out / SETTINGS, experiment, setting, study)
        trials = _run_trials(study, out / TRIALS, log)
        summary = study.summarize({name: trial["result"] for name, trial in trials.items()})
        report = _report(experiment, setting, study, trials, summary)
        summary.draw(figure)
        with atomic_path(out / "figure.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)
        atomic_write_text(out / "table.md", report_page(report))
        atomic_write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def seeds_of(setting: StudySettings, kinds: Iterable[str]) -> list[tuple[str, str, int]]:
    """The trials of an experiment that trains each kind with each seed.

    Args:
        setting: for the number of seeds.
        kinds: names.

    Returns:
        (trial, kind, seed) of each: all kinds with a seed before the next seed.
    """
    kinds = list(kinds)
    return [(f"{kind}.{seed}", kind, seed) for seed in range(setting.seeds) for kind in kinds]


def mean_and_spread(key: str, values: Iterable[float | None]) -> dict[str, float | None]:
    """A number of a table's row from one trial per seed.

    Args:
        key: of the column.
        values: by seed; None where a trial has no such number.

    Returns:
        The mean at `key` and the sample standard deviation at `key_sd`, None of a single value; both None where a
        trial has no number.
    """
    found = list(values)
    known = [value for value in found if value is not None]
    if len(known) < len(found) or not known:
        return {key: None, f"{key}_sd": None}
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {key: statistics.fmean(known), f"{key}_sd": spread}


def _check_settings(
    path: Path, experiment: Experiment, setting: StudySettings, study: Study
) -> None:
    """Checks that everything in the folder was computed with these settings, or notes them.

    The number of seeds may change, which touches no trial.
    """
    ours = {
        "experiment": experiment.name,
        "data": setting.data,
        "steps": setting.steps,
        "images": dict(study.images),
    }
    if not path.exists():
        atomic_write_text(path, json.dumps(ours, indent=2) + "\n")
        return
    theirs = _read(path)
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise UserError(
                f"{path.parent} was started with {key} {theirs.get(key)!r}, not {value!r}; repeat the options that it"
                " started with, or use another --out"
            )


def _run_trials(study: Study, folder: Path, log: Callable[[str], None]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for number, (name, compute) in enumerate(study.trials.items(), 1):
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = _read(path)
            continue
        try:
            found[name] = _timed(compute)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; {number - 1} of {len(study.trials)} trials are saved; the same command resumes there"
            ) from None
        atomic_write_text(path, json.dumps(found[name]) + "\n")
        log(f"{number}/{len(study.trials)} {name}: {found[name]['seconds']:.1f} s")
    return found


def _timed(compute: Callable[[], dict]) -> dict:
    started, used = time.perf_counter(), time.process_time()
    result = compute()
    return {
        "result": result,
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(time.process_time() - used, 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": device_name(),
        "environment": environment(),
    }


def _read(path: Path) -> dict:
    try:
        values = json.loads(read_text(path))
        if isinstance(values, dict):
            return values
    except (ValueError, RecursionError):
        pass
    raise UserError(f"{path} is damaged; remove it, and the same command computes it again")


def _report(
    experiment: Experiment,
    setting: StudySettings,
    study: Study,
    trials: Mapping[str, dict],
    summary: Summary,
) -> dict:
    def distinct(key):
        values = [trial[key] for trial in trials.values()]
        return [value for n, value in enumerate(values) if value not in values[:n]]

    return {
        "experiment": experiment.name,
        "source": experiment.source,
        "setting": dataclasses.asdict(setting),
        "images": dict(study.images),
        "columns": [dataclasses.asdict(column) for column in summary.columns],
        "rows": [dict(row) for row in summary.rows],
        "holds": dict(summary.holds),
        "seconds": round(sum(trial["seconds"] for trial in trials.values()), 1),
        "processor_seconds": round(sum(t["processor_seconds"] for t in trials.values()), 1),
        "date": max(trial["date"] for trial in trials.values()),
        "devices": distinct("device"),
        "environments": distinct("environment"),
    }
