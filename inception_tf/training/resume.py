# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything that changes while a model trains, by name, written aside and renamed whole."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.files import to_disk

__all__ = ["Progress", "latest", "restore", "save"]

KEPT = 2  # newest checkpoints; the older one is there in case the disk lost the newer
ARRAYS, STATE = "variables.npz", "progress.json"


@dataclass(frozen=True)
class Progress:
    """How far a run is; the data position follows from the step."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # of training so far
    history: list[dict] = field(default_factory=list)  # one row a finished epoch


def save(folder: Path, model: keras.Model, progress: Progress) -> Path:
    """Writes `folder/step-00000440`; a save that fails or is killed leaves the earlier ones as they were."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{progress.step:08d}"
    unfinished = folder / f".{final.name}-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        arrays = {name: keras.ops.convert_to_numpy(v) for name, v in _variables(model).items()}
        with open(unfinished / ARRAYS, "wb") as file:
            np.savez(file, **arrays)
            to_disk(file)
        with open(unfinished / STATE, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(progress), file)
            to_disk(file)
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in _checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`, or None."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def restore(checkpoint: Path, model: keras.Model) -> Progress:
    """Fills model and optimizer from a checkpoint; `UserError` where it belongs to another model."""
    with np.load(checkpoint / ARRAYS) as arrays:
        variables = _variables(model)
        missing = sorted(variables.keys() ^ set(arrays.files))
        if missing:
            raise UserError(
                f"checkpoint {checkpoint} belongs to another model or optimizer: '{missing[0]}' is in only one of the"
                " two; resume with the settings of the run's config.yaml, or take another --out"
            )
        for name, variable in variables.items():
            if tuple(variable.shape) != arrays[name].shape:
                raise UserError(
                    f"checkpoint {checkpoint} belongs to another model: '{name}' is {arrays[name].shape} there"
                    f" and {tuple(variable.shape)} here; take another --out"
                )
            variable.assign(arrays[name])
    return Progress(**json.loads((checkpoint / STATE).read_text(encoding="utf-8")))


def _variables(model: keras.Model) -> dict:
    """Everything that changes, by position: weights, statistics and dropout's seeds by layer, then the optimizer's.

    Not by `path`: Keras numbers seeds and optimizers over the whole process.
    """
    owners = [(f"model/{layer.name}", layer.variables) for layer in model.layers]
    owners.append(("optimizer", model.optimizer.variables))
    return {
        f"{owner}/{number}-{variable.name}": variable
        for owner, variables in owners
        for number, variable in enumerate(variables)
    }


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if (p / STATE).is_file())
