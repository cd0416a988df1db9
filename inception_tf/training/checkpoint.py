# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything that changes while a model trains, by name, written to a temporary folder, checksummed and renamed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import fsync
from inception_tf.host.files import read_text
from inception_tf.training.optim.skip_nonfinite import NotFiniteError
from inception_tf.weights.formats.npz import read_npz
from inception_tf.weights.formats.stored import NOTHING, damage_is

__all__ = ["Progress", "latest", "read_progress", "restore", "save"]

NAME = re.compile(r"step-\d{8,}")
KEPT = 2  # newest checkpoints; the older one in case the newer is damaged
ARRAYS, STATE, CHECKSUMS = "variables.npz", "progress.json", "SHA256SUMS"

log = logging.getLogger("inception_tf")


@dataclass(frozen=True)
class Progress:
    """How far a run is; the data position and every seed of the data follow from the step."""

    step: int = 0  # batches used, skipped steps included
    seconds: float = 0.0  # of training so far
    history: list[dict] = field(default_factory=list)  # one row per finished epoch
    # Metric sums of an unfinished epoch; empty between two epochs.
    metrics: list = field(default_factory=list)
    images: int | None = None  # in the training split, which the order of all images depends on
    # Of the run, its settings and its data, as `fingerprint` makes it; None: of version 0.1.0.
    fingerprint: dict | None = None


def save(folder: Path, model: keras.Model, progress: Progress) -> Path:
    """Writes the checkpoint `folder/step-00000440`; a save that fails or is killed leaves the earlier ones intact.

    `SHA256SUMS` beside the variables and the progress is in the format of `sha256sum --check`.  Only the
    newest two checkpoints are kept.

    Args:
        folder: the run's checkpoint folder, made where it is missing.
        model: a compiled model, saved with its optimizer.
        progress: how far the run is.

    Returns:
        The folder of the new checkpoint.

    Raises:
        OSError: the disk is full, or the folder is not writable.
        NotFiniteError: a variable is not finite, so that training could not continue from there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".step-*"):  # of a process that was killed during a save
        shutil.rmtree(unfinished, ignore_errors=True)
    final = folder / f"step-{progress.step:08d}"
    unfinished = folder / f".{final.name}-{os.getpid()}"
    try:
        unfinished.mkdir()
        _write(unfinished, _finite(_variables(model), progress.step), progress)
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _fsync_folder(folder)
    except OSError as error:  # a failed write does not name its file
        raise OSError(error.errno, error.strerror, str(final)) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    saved = _checkpoints(folder)
    earlier = saved[: saved.index(final) + 1]
    for path in saved:
        # Later ones are damaged: the run resumed from an earlier one.
        if path not in earlier[-KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """Finds the newest intact checkpoint; a damaged one is logged and skipped.

    Args:
        folder: the run's checkpoint folder.

    Returns:
        The folder of the checkpoint, or None where there is none.

    Raises:
        UserError: all checkpoints are damaged.
    """
    found = _checkpoints(folder)
    for checkpoint in reversed(found):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        log.warning("checkpoint %s is damaged (%s); using the one before it", checkpoint, damage)
    if found:
        raise UserError(
            f"every checkpoint in {folder} is damaged; restore one from a backup, or start a new run in another --out"
        )
    return None


def restore(checkpoint: Path, model: keras.Model) -> Progress:
    """Loads a checkpoint into a compiled model and its optimizer.

    Args:
        checkpoint: a folder that `latest` returned.
        model: compiled as it was when the checkpoint was saved.

    Returns:
        How far the run was.

    Raises:
        UserError: the checkpoint belongs to another model or optimizer.
    """
    path = str(checkpoint / ARRAYS)
    arrays = read_npz(path, NOTHING)  # names and shapes
    variables = _variables(model)
    missing = sorted(variables.keys() ^ arrays.keys())
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
    arrays = read_npz(path, variables.keys())
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return read_progress(checkpoint)


def read_progress(checkpoint: Path) -> Progress:
    """Reads how far a run was, without its variables.

    Args:
        checkpoint: a folder that `latest` returned.

    Returns:
        The progress at the time of the save.
    """
    with damage_is(f"{checkpoint / STATE} is not what training writes; take another --out"):
        return Progress(**json.loads(read_text(checkpoint / STATE)))


def _variables(model: keras.Model) -> dict:
    """Everything that changes, by position: weights, statistics and dropout seeds by layer, then the optimizer's.

    Not by `path`: Keras numbers seeds and optimizers across the whole process.
    """
    owners = [(f"model/{layer.name}", layer.variables) for layer in model.layers]
    owners.append(("optimizer", _optimizer_variables(model.optimizer)))
    return {
        f"{owner}/{number}-{variable.name}": variable
        for owner, variables in owners
        for number, variable in enumerate(variables)
    }


def _optimizer_variables(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """In the order of version 0.1.0, in which the statistics that are protected stood before their copy."""
    variables, guarded = list(optimizer.variables), getattr(optimizer, "guarded", ())
    if not guarded:
        return variables
    place = next(number for number, v in enumerate(variables) if v is optimizer.kept)
    return [*variables[:place], *guarded, *variables[place:]]


def _finite(variables: dict, step: int) -> dict:
    """The variables' values as arrays, checked to be finite."""
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise NotFiniteError(
                f"'{name}' is not finite at step {step}, so this step is not saved; the previous checkpoint is intact:"
                " start again in another --out with a lower optimizer.learning_rate",
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
    with open(folder / CHECKSUMS, "w", encoding="ascii") as file:
        file.writelines(f"{_sha256(folder / name)}  {name}\n" for name in (ARRAYS, STATE))
        fsync(file)


def _checkpoints(folder: Path) -> list[Path]:
    """Those of a run, oldest first; whatever else lies there, such as a copy `step-00000044-old`, is left alone."""
    found = {path: NAME.fullmatch(path.name) for path in folder.glob("step-*") if path.is_dir()}
    return sorted(
        (path for path, name in found.items() if name), key=lambda path: int(path.name[5:])
    )


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files; None for an intact one."""
    try:
        sums = (checkpoint / CHECKSUMS).read_bytes().decode("ascii", "replace").splitlines()
        for name in (ARRAYS, STATE):
            if f"{_sha256(checkpoint / name)}  {name}" not in sums:
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    """Waits until the entries of a folder are on disk."""
    if os.name == "posix":  # others cannot open a folder
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
