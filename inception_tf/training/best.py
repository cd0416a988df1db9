# SPDX-License-Identifier: Apache-2.0
"""The best epoch of a run: its weights, kept until the end, and how long ago it was."""

from __future__ import annotations

import logging
from pathlib import Path

import keras
import numpy as np

from inception_tf.config import TrainingConfig
from inception_tf.host.atomic_io import atomic_path
from inception_tf.training.monitored import monitored_metric
from inception_tf.training.optim.ema import averaged

__all__ = ["BEST", "best_row", "forget_others", "is_over", "keep_best", "take_best"]

BEST = "best"  # of `training.keep`

log = logging.getLogger("inception_tf")


def best_row(history: list[dict]) -> dict:
    """Finds the epoch with the highest top-1 accuracy, or mean average precision, in validation, the first of equals.

    Args:
        history: one row per finished epoch, at least one.

    Returns:
        Its row.
    """
    return max(history, key=lambda row: row[f"val_{monitored_metric(row)}"])


def is_over(history: list[dict], training: TrainingConfig) -> bool:
    """Whether a run has gone on for `training.patience` epochs without a better one.

    The epochs in which only the classifiers are trained do not count.

    Args:
        history: one row per finished epoch.
        training: the configuration's section.

    Returns:
        True where it is to end before its last epoch; False without patience.
    """
    if training.patience is None or not history:
        return False
    since = history[-1]["epoch"] - max(best_row(history)["epoch"], training.head_epochs)
    return since >= training.patience


def keep_best(folder: Path, model: keras.Model, history: list[dict]) -> None:
    """Writes the weights that evaluation used, averages where there are any, if the last epoch is the best one.

    Called before the checkpoint with this history is saved, so that no checkpoint names weights that are not there;
    `forget_others` removes those of earlier ones afterwards.

    Args:
        folder: of the checkpoints.
        model: the compiled network.
        history: one row per finished epoch.
    """
    row = history[-1]
    if best_row(history) is not row:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with averaged(model):
        arrays = {v.path: keras.ops.convert_to_numpy(v) for v in model.variables}
    with atomic_path(_file(folder, row["epoch"])) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def forget_others(folder: Path, history: list[dict]) -> None:
    """Removes the weights of epochs that were the best before.

    Args:
        folder: of the checkpoints, the newest of which has this history.
        history: one row per finished epoch.
    """
    best = _file(folder, best_row(history)["epoch"])
    for path in folder.glob("best-epoch-*.npz"):
        if path != best:
            path.unlink(missing_ok=True)


def take_best(folder: Path, network: keras.Model, history: list[dict]) -> bool:
    """Loads the best epoch's weights.

    Args:
        folder: of the checkpoints.
        network: the plain network, whose variables have the paths of the compiled one.
        history: one row per finished epoch.

    Returns:
        False where they were not kept, as in a run that began with another version; nothing is loaded then.
    """
    path = _file(folder, best_row(history)["epoch"])
    if not path.is_file():
        log.warning("%s is missing, so the result is the last epoch's and not the best one's", path)
        return False
    with np.load(path) as arrays:
        for variable in network.weights:
            variable.assign(arrays[variable.path])
    return True


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"best-epoch-{epoch:04d}.npz"
