# SPDX-License-Identifier: Apache-2.0
"""The effect of batch normalization on a small network on MNIST: Ioffe and Szegedy 2015, section 4.1 and Figure 1."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inception_tf.experiments.figure1 import draw_figure1, figure1_csv
from inception_tf.experiments.mnist import load_mnist
from inception_tf.experiments.sigmoids import NETWORKS, TYPICAL, MnistSettings, Trace, train_network
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.environment import environment
from inception_tf.host.hardware import device_name
from inception_tf.training.curves import new_figure

__all__ = ["LEVELS", "distance_from_end", "drift", "findings", "run_bn_mnist", "steps_to"]

LEVELS = (0.80, 0.90, 0.95, 0.96, 0.97, 0.98)  # accuracies whose first step is reported
QUARTILES = (25, 50, 75)
LATE = 10  # the last tenth of the measurements is averaged: a single one is noisy


def run_bn_mnist(
    out: Path, setting: MnistSettings, folder: str | None, log: Callable[[str], None]
) -> dict:
    """Trains both networks and writes `figure1.png`, `figure1.csv` and `report.json`.

    The three files appear together, at the end.

    Args:
        out: the folder to write to, made where it is missing.
        setting: of both networks.
        folder: where TFDS has MNIST, see `load_mnist`.
        log: called with lines of progress.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: there is no MNIST, or a network diverges.
        OSError: `out` cannot be written; raised before anything is trained.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass  # fails now, not after minutes of training
    new_figure()  # a missing matplotlib is reported now, too
    data = load_mnist(folder)
    traces, seconds = {}, {}
    for batch_norm, name in enumerate(NETWORKS):
        started = time.perf_counter()
        traces[name] = train_network(data, setting, bool(batch_norm), log)
        seconds[name] = round(time.perf_counter() - started, 1)
    report = {
        "experiment": "bn-mnist",
        "setting": dataclasses.asdict(setting),
        **findings(traces),
        "seconds": seconds,
        "device": device_name(),
        "environment": environment(),
    }
    with (
        atomic_path(out / "report.json") as report_file,
        atomic_path(out / "figure1.csv") as csv_file,
        atomic_path(out / "figure1.png") as png_file,
    ):
        draw_figure1(traces, png_file)
        csv_file.write_text(figure1_csv(traces), encoding="utf-8")
        report_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def findings(traces: dict[str, Trace]) -> dict:
    """Compares the two trainings with each other and with the paper.

    Args:
        traces: of both networks, by name.

    Returns:
        The figures of each network, and whether batch normalization helps as the paper says.
    """
    plain, normalized = (traces[name] for name in NETWORKS)
    figures = {name: _figures(trace) for name, trace in traces.items()}
    # The highest accuracy that both have reached.
    common = min(float(plain.accuracy.max()), float(normalized.accuracy.max()))
    needed = {
        name: int(trace.steps[np.argmax(trace.accuracy >= common)])
        for name, trace in traces.items()
    }
    first, second = (figures[name] for name in NETWORKS)
    return {
        "networks": figures,
        "common_accuracy": common,
        "steps_to_common_accuracy": needed,
        "with_bn": {
            "gets_there_in_fewer_steps": needed[NETWORKS[1]] < needed[NETWORKS[0]],
            "ends_higher": second["late_accuracy"] > first["late_accuracy"],
            "has_steadier_percentiles": second["drift"] < first["drift"],
        },
    }


def _figures(trace: Trace) -> dict:
    best = int(np.argmax(trace.accuracy))
    units = np.moveaxis(trace.percentiles, 2, 0)
    drifts, distances = (
        [measure(unit) for unit in units] for measure in (drift, distance_from_end)
    )
    typical = trace.percentiles[:, :, TYPICAL]
    return {
        "steps_to_accuracy": {f"{level:.2f}": steps_to(trace, level) for level in LEVELS},
        "final_accuracy": float(trace.accuracy[-1]),
        "late_accuracy": float(trace.accuracy[-max(1, len(trace.accuracy) // LATE) :].mean()),
        "final_accuracy_algorithm_2": trace.population_accuracy,
        "best_accuracy": float(trace.accuracy[best]),
        "best_step": int(trace.steps[best]),
        "drift": drifts[TYPICAL],
        "drift_quartiles_of_the_layer": np.percentile(drifts, QUARTILES).tolist(),
        "distance_from_end": distances[TYPICAL],
        "distance_from_end_quartiles_of_the_layer": np.percentile(distances, QUARTILES).tolist(),
        "first_percentiles": typical[0].tolist(),
        "final_percentiles": typical[-1].tolist(),
    }


def steps_to(trace: Trace, accuracy: float) -> int | None:
    """The number of steps after which a test accuracy was first measured.

    Args:
        trace: of one network.
        accuracy: in [0, 1].

    Returns:
        The steps, or None where the accuracy was never reached.
    """
    there = trace.accuracy >= accuracy
    return int(trace.steps[np.argmax(there)]) if there.any() else None


def drift(percentiles: np.ndarray) -> float:
    """How far the distribution of a sigmoid's input travels during training, in units of its width.

    The sum over neighboring measurements of the mean of |p(t+1) - p(t)| over the three percentiles, divided
    by p85(t) - p15(t): a later layer has to follow changes that are large compared with the spread of its
    input.  It grows with the number of measurements, so only compare traces with equally many.

    Args:
        percentiles: (T, 3), the 15th, 50th and 85th at T measurements.

    Returns:
        At least 0.
    """
    moved = np.abs(np.diff(percentiles, axis=0)).mean(axis=1)
    widths = percentiles[:-1, -1] - percentiles[:-1, 0]
    return float(np.sum(moved / widths))


def distance_from_end(percentiles: np.ndarray) -> float:
    """How far the distribution of a sigmoid's input is from its final one, on average.

    Args:
        percentiles: (T, 3), as in `drift`.

    Returns:
        The mean of |p(t) - p(end)|, in units of the sigmoid's input.
    """
    return float(np.abs(percentiles - percentiles[-1]).mean())
