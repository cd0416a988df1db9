# SPDX-License-Identifier: Apache-2.0
"""A run: a plan's compiled model, data and callbacks, `model.fit` over them, and what it leaves behind."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.applications import create_model
from inception_tf.config import Config
from inception_tf.data.labels import write_labels
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path, atomic_write_text
from inception_tf.host.environment import environment
from inception_tf.run_folder import Run
from inception_tf.training import checkpoint as resume
from inception_tf.training.callbacks import LogInputsAndGraph, Recorder
from inception_tf.training.compile import compile_for, compiled_model
from inception_tf.training.curves import draw_curves, new_figure
from inception_tf.training.determinism import op_determinism
from inception_tf.training.distribute import Team, make_team
from inception_tf.training.optim.ema import AveragedEvaluation, averaged
from inception_tf.training.optim.recalibrate import recalibrate
from inception_tf.training.optim.skip_nonfinite import StopOnNonFinite
from inception_tf.training.phases import phase_at
from inception_tf.training.plan import TrainingPlan, make_plan

__all__ = ["train"]

# Settings that a run may be given anew when it goes on: they touch its result alone.
CHANGEABLE = ("training.recalibrate_batch_norm",)

ANEW = "bring the data back as it was, or train anew into another --out"


def train(
    config: Config,
    out: str | Path,
    *,
    resumed: bool = False,
    callbacks: Iterable = (),
    team: Team | None = None,
) -> dict:
    """Trains by `config` into the run folder `out` and returns the content of its `report.json`.

    resumed: go on from the newest checkpoint in `out`.  team: the processes and devices that train
    together, all of this machine and of TF_CONFIG unless given; only its chief writes, and all see
    `out`.  Raises `UserError` for a mistake in the configuration or the data, for a worker that is
    lost and for losses that are not finite, `Stopped` after Ctrl-C with the state saved.
    """
    run = Run(Path(out))
    _check_folder(run, config, resumed)
    team = team or make_team()
    team.check_steps(config.data.batch_size, config.training.steps_per_execution)
    plan = make_plan(config)
    new_figure()  # what the end of the run needs must not be missing after hours
    recorder = Recorder(run, resume.Progress(images=len(plan.train)), team=team)
    determinism = op_determinism(config.training.deterministic)
    with determinism, team.watched(lambda: recorder.progress.step):
        with team.strategy.scope():
            keras.utils.set_random_seed(config.training.seed)
            checkpoint = resume.latest(run.checkpoints) if resumed else None
            model = compiled_model(plan, pretrained=checkpoint is None)
            if checkpoint:
                recorder.resume_from(_restored(checkpoint, run, plan, model))
        team.check_same(configuration=_digest(config, plan), checkpoint=recorder.progress.step)
        if team.is_chief:
            run.write_config(config)
            write_labels(run.labels_file, plan.source.labels)
        own = _callbacks(plan, team, recorder, begins=not resumed)
        _watched_fit(model, plan, team, recorder, [*own, *callbacks])
        return _finish(run, plan, model, recorder.progress, team)


def _callbacks(plan: TrainingPlan, team: Team, recorder: Recorder, *, begins: bool) -> list:
    """Those of every run; TensorBoard's are the chief's, graph and images a new run's."""
    most = plan.config.training.max_bad_steps
    own = [AveragedEvaluation(), recorder, StopOnNonFinite(most, recorder.progress.step)]
    if not team.is_chief:
        return own
    folder = recorder.run.path / "tensorboard"
    own.append(keras.callbacks.TensorBoard(folder, write_graph=False))
    if begins:
        shown = {"train": plan.training_data(), "validation": plan.validation_data()}
        own.append(LogInputsAndGraph(folder, shown))
    return own


def _watched_fit(
    model, plan: TrainingPlan, team: Team, recorder: Recorder, callbacks: list
) -> None:
    """`_fit`, its errors as sentences and Ctrl-C as a stop."""
    try:
        with warnings.catch_warnings():
            # How many images can be read is known only when all are; Keras thinks that one too few.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            _fit(model, plan, team, recorder.progress.step, callbacks)
    except tf.errors.OpError as error:
        for bad in plan.bad:
            if bad.exceeded:
                raise bad.error() from error
        raise
    finally:
        recorder.release_signals()


def _restored(
    checkpoint: Path, run: Run, plan: TrainingPlan, model: keras.Model
) -> resume.Progress:
    """Brings `model` to where the checkpoint was saved."""
    progress = resume.read_progress(checkpoint)
    _check_data(run, plan, progress)
    phase = plan.phase_before(progress.step)
    if phase.first:
        compile_for(model, plan, phase)
    return resume.restore(checkpoint, model)


def _fit(model: keras.Model, plan: TrainingPlan, team: Team, done: int, callbacks: list) -> None:
    """`model.fit` from step `done`, a call for each phase and one for the rest of an epoch left in its middle."""
    phase, batch_size = plan.phase_before(done), plan.config.data.batch_size

    def targets(x, y):
        return x, dict.fromkeys(model.output, y)

    while done < plan.config.training.epochs * plan.steps:
        epoch, offset = divmod(done, plan.steps)
        if epoch == phase.end:
            phase = phase_at(plan.config, epoch)
            with team.strategy.scope():
                compile_for(model, plan, phase)
        last = epoch + 1 if offset else phase.end
        model.fit(
            team.distribute(plan.training_data(done, team.share).map(targets), batch_size),
            validation_data=team.distribute_whole(
                plan.validation_data(team.share).map(targets), len(plan.validation), batch_size
            ),
            steps_per_epoch=plan.steps - offset,
            initial_epoch=epoch,
            epochs=last,
            callbacks=callbacks,
            shuffle=False,  # the data is shuffled already
            verbose=0,
        )
        done = last * plan.steps


def _check_folder(run: Run, config: Config, resumed: bool) -> None:
    if resumed:
        theirs = run.config().flat()
        for key, now in config.flat().items():
            before = theirs[key]
            if before != now and key not in CHANGEABLE:
                raise UserError(
                    f"--resume goes on with the settings of {run.config_file}, where {key} is {before!r} and not"
                    f" {now!r}; leave the other options out, or take another --out"
                )
    elif run.config_file.exists():
        raise UserError(
            f"{run.path} holds a run already; add --resume to continue it, or take another --out"
        )


def _check_data(run: Run, plan: TrainingPlan, progress: resume.Progress) -> None:
    """Is the data still what the run began with?"""
    told = f"{run.path} was trained on"
    if run.labels() != plan.source.labels:
        before, now = (", ".join(labels) for labels in (run.labels(), plan.source.labels))
        raise UserError(f"{told} the classes {before}, and {plan.source.name} has {now}; {ANEW}")
    if progress.images not in (None, len(plan.train)):
        raise UserError(
            f"{told} {progress.images} images, and {plan.source.name} has {len(plan.train)} now; {ANEW}"
        )


def _digest(config: Config, plan: TrainingPlan) -> int:
    """A number that two processes share only if they train the same way."""
    settings = json.dumps([config.as_dict(), plan.precision.policy, len(plan.train), plan.classes])
    return zlib.crc32(settings.encode())


def _finish(
    run: Run, plan: TrainingPlan, model: keras.Model, progress: resume.Progress, team: Team
) -> dict:
    """Writes the result: the plain network in float32 with the trained weights, the report, the curves."""
    result = create_model(plan.config.model.name, dtype="float32", **plan.model_arguments())
    with averaged(model):
        trained = {v.path: v for v in model.variables}
        for variable in result.weights:
            variable.assign(trained[variable.path])
    report = _report(plan, result, progress)
    if team.is_chief:
        batches = plan.config.training.recalibrate_batch_norm
        if batches:
            recalibrate(result, plan.training_data(), batches)
        with atomic_path(run.model_file) as temporary:
            result.save(temporary)
        atomic_write_text(run.path / "report.json", json.dumps(report, indent=2) + "\n")
        title = f"{plan.config.model.name} on {plan.source.name}"
        draw_curves(progress.history, run.path / "curves.png", title=title)
    team.wait()  # nobody leaves before all is written
    return report


def _report(plan: TrainingPlan, result: keras.Model, progress: resume.Progress) -> dict:
    history = progress.history
    best = max(history, key=lambda row: row["val_top1"])
    return {
        "model": plan.config.model.name,
        "parameters": result.count_params(),
        "data": plan.source.name,
        "images": {name: len(split) for name, split in plan.source.splits.items()},
        "skipped": {name: reason for bad in plan.bad for name, reason in bad.reasons.items()},
        "recalibrated_batches": plan.config.training.recalibrate_batch_norm,
        "precision": plan.precision.policy,
        "precision_reason": plan.precision.reason,
        "epochs": len(history),
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "last": {name: history[-1][name] for name in ("val_top1", "val_top5")},
        "best": {"val_top1": best["val_top1"], "epoch": best["epoch"]},
        "environment": environment(),
    }
