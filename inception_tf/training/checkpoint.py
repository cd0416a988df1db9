# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything that changes while a model trains, by name, written aside, summed and renamed whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import fsync
from inception_tf.training.optim.skip_nonfinite import NotFiniteError

__all__ = ["Progress", "latest", "read_progress", "restore", "save"]

KEPT = 2  # newest checkpoints; the older one is there in case the disk lost the newer
ARRAYS, STATE, SUMS = "variables.npz", "progress.json", "SHA256SUMS"

log = logging.getLogger("inception_tf")


@dataclass(frozen=True)
class Progress:
    """How far a run is; the data position and every seed of the data follow from the step."""

    step: int = 0  # batches trained on, those included whose step was left out
    seconds: float = 0.0  # of training so far
    history: list[dict] = field(default_factory=list)  # one row a finished epoch
    metrics: list = field(default_factory=list)  # sums of the epoch under way; empty between two
    images: int | None = None  # of the training split, on which the order of all images depends


def save(folder: Path, model: keras.Model, progress: Progress) -> Path:
    """Writes `folder/step-00000440`; a save that fails or is killed leaves the earlier ones as they were.

    Beside the variables and the progress stands `SHA256SUMS`, which `sha256sum --check` reads too.
    Raises `OSError` for a full disk or a folder that may not be written, `NotFiniteError` where a variable is
    not finite: nobody can go on from there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".step-*"):  # by a process that was killed in the middle of a save
        shutil.rmtree(left, ignore_errors=True)
    final = folder / f"step-{progress.step:08d}"
    unfinished = folder / f".{final.name}-{os.getpid()}"
    try:
        unfinished.mkdir()
        _write(unfinished, _finite(_variables(model), progress.step), progress)
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _fsync_folder(folder)
    except OSError as error:  # a write that fails does not say where
        raise OSError(error.errno, error.strerror, str(final)) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    earlier = [path for path in _checkpoints(folder) if path <= final]
    for path in _checkpoints(folder):
        # Later ones are damaged: the run went on from one before them.
        if path not in earlier[-KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None where none was ever written.

    One that is torn or changed on the disk is named in the log and passed over; `UserError` where all are.
    """
    found = _checkpoints(folder)
    for checkpoint in reversed(found):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        log.warning("checkpoint %s is damaged (%s); the one before it is used", checkpoint, damage)
    if found:
        raise UserError(
            f"every checkpoint in {folder} is damaged; bring one back from a copy, or train anew into another --out"
        )
    return None


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
    return read_progress(checkpoint)


def read_progress(checkpoint: Path) -> Progress:
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


def _finite(variables: dict, step: int) -> dict:
    """The variables' values as arrays."""
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise NotFiniteError(
                f"'{name}' is not finite at step {step}, which is not saved; the checkpoint before it is whole:"
                " go on from there in another --out with a lower optimizer.learning_rate",
                step,
            )
    return arrays


def _write(folder: Path, arrays: dict, progress: Progress) -> None:
    with open(folder / ARRAYS, "wb") as file:
        np.savez(file, **arrays)
        fsync(file)
    with open(folder / STATE, "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(progress), file)
        fsync(file)
    with open(folder / SUMS, "w", encoding="ascii") as file:
        file.writelines(f"{_sum(folder / name)}  {name}\n" for name in (ARRAYS, STATE))
        fsync(file)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files; None for a whole one."""
    try:
        sums = (checkpoint / SUMS).read_bytes().decode("ascii", "replace").splitlines()
        for name in (ARRAYS, STATE):
            if f"{_sum(checkpoint / name)}  {name}" not in sums:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    return None


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    if os.name == "posix":  # others cannot open a folder
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
