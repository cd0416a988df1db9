# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint depends on beside its variables: the run, its settings and its data; checked before it is resumed."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import keras

from inception_tf.config import Config
from inception_tf.data.fingerprint import changed_since, fingerprint_split
from inception_tf.errors import UserError
from inception_tf.run_folder import Run
from inception_tf.training.plan import TrainingPlan

__all__ = ["MAY_CHANGE", "RESTORE_DATA", "changed_setting", "check_fingerprint", "make_fingerprint"]

# Settings that touch no past step, so that a run may be resumed with another value of them, and why.
MAY_CHANGE = {
    "data.name": "the images themselves are compared, wherever they lie",
    "data.cache": "the same pixels, kept elsewhere",
    "data.max_bad": "when the run ends, not what it computes",
    "training.epochs": "the steps to come have the learning rates of the longer run at their positions",
    "training.keep": "its result, not the training",
    "training.tracker": "reports alone, not what is computed",
    "training.patience": "when the run ends, not what it computes",
    "training.max_bad_steps": "when the run ends, not what it computes",
    "training.recalibrate_batch_norm": "its result, not the training",
}
RESTORE_DATA = "restore the data as it was, or start a new run in another --out"
NEW_RUN = "start a new run in another --out"

log = logging.getLogger("inception_tf")


def changed_setting(before: Config, now: Config) -> str | None:
    """The first setting that touches past steps and has another value.

    Args:
        before: the configuration that past steps were computed with.
        now: the configuration to resume with.

    Returns:
        Its key, such as `optimizer.learning_rate`, or None.
    """
    theirs, ours = before.flat(), now.flat()
    return next((k for k in ours if k not in MAY_CHANGE and theirs[k] != ours[k]), None)


def make_fingerprint(run: Run, plan: TrainingPlan) -> dict:
    """The fingerprint that every checkpoint of a run holds.

    Args:
        run: the run folder; one without an id gets one.
        plan: the resolved configuration and its data.

    Returns:
        `run`: the run's id; `settings`: as `config.yaml` has them; `precision`: what
        `auto` was resolved to; `backend`: of Keras; `data`: of `train` and `validation`, each as
        `data.fingerprint.SplitFingerprint` has it; `seconds`: when it was made, since 1970.

    Raises:
        UserError: an image file is missing or unreadable.
    """
    started = time.time()
    splits = {"train": plan.train, "validation": plan.validation}
    return {
        "run": run.identity() or uuid.uuid4().hex,
        "settings": plan.config.as_dict(),
        "precision": plan.precision.policy,
        "backend": keras.backend.backend(),
        "data": {
            name: dataclasses.asdict(fingerprint_split(split)) for name, split in splits.items()
        },
        "seconds": started,
    }


def check_fingerprint(
    checkpoint: Path, stored: Mapping | None, run: Run, plan: TrainingPlan, now: Mapping
) -> None:
    """Checks that a checkpoint is of this run, with these settings and this data.

    A checkpoint of version 0.1.0 has no fingerprint: that is logged.

    Args:
        checkpoint: its folder, for the errors.
        stored: the fingerprint in it, or None.
        run: the run folder that it lies in.
        plan: the resolved configuration and its data.
        now: what `make_fingerprint` returned for these.

    Raises:
        UserError: it is of another run, or a setting that touches past steps, or an image, has changed.
    """
    if stored is None:
        log.warning(
            "checkpoint %s has no fingerprint, as those of version 0.1.0: whether the settings in %s and the images"
            " are those it was trained with cannot be checked",
            *(checkpoint, run.config_file),
        )
        return
    if stored["run"] != run.identity():
        raise UserError(
            f"checkpoint {checkpoint} is of the run {stored['run']}, and {run.config_file} is of"
            f" {run.identity() or 'a run without an id'}; put back what belongs to this run, or {NEW_RUN}"
        )
    # Version 0.1.0 trained on TensorFlow alone.
    backend, present = stored.get("backend", "tensorflow"), now["backend"]
    if backend != present:
        raise UserError(
            f"checkpoint {checkpoint} was trained with KERAS_BACKEND={backend}, and this is {present}, whose random"
            f" numbers and rounding are others: it would be no longer one run; set KERAS_BACKEND={backend}, or {NEW_RUN},"
            " which may start with --weights from a finished run's model.keras"
        )
    before = Config.parse(stored["settings"], f"checkpoint {checkpoint}")
    changed = changed_setting(before, plan.config)
    if changed:
        raise UserError(
            f"checkpoint {checkpoint} was trained with {changed} {before.flat()[changed]!r}, and {run.config_file} has"
            f" {plan.config.flat()[changed]!r}; put the setting back, or {NEW_RUN}"
        )
    if stored["precision"] != now["precision"]:
        log.warning(
            "the steps up to checkpoint %s were computed in %s, and the further ones are in %s: %s",
            *(checkpoint, stored["precision"], now["precision"], plan.precision.reason),
        )
    for name, split in (("train", plan.train), ("validation", plan.validation)):
        then, found = stored["data"][name], now["data"][name]
        if then["images"] != found["images"]:
            what = f"has {found['images']} images and not {then['images']},"
        elif then["names"] != found["names"]:
            what = "has other images, names or classes, or another order,"
        elif then["contents"] != found["contents"]:
            files = changed_since(split, stored["seconds"])
            what = "has other pixels" + (f" ({', '.join(files)})" if files else "")
        else:
            continue
        raise UserError(
            f"the {name} split of {plan.source.name} {what} than when checkpoint {checkpoint} was trained;"
            f" {RESTORE_DATA}"
        )
