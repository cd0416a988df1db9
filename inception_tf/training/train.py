# SPDX-License-Identifier: Apache-2.0
"""Runs a training: builds the compiled model, the data and the callbacks, calls `model.fit` and writes the results."""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.applications import create_model
from inception_tf.config import Config, DataConfig
from inception_tf.data.depth import depth_warning
from inception_tf.data.duplicates import duplicates_warning, equal_images
from inception_tf.data.labels import write_labels
from inception_tf.data.preprocessing import preprocessing_of_run
from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path, atomic_write_text
from inception_tf.host.environment import environment
from inception_tf.host.locks import lock_folder
from inception_tf.inference.forward import compiled_forward
from inception_tf.models import find_network
from inception_tf.run_folder import Run
from inception_tf.training import checkpoint as resume
from inception_tf.training.best import BEST, best_row, is_over, take_best
from inception_tf.training.callbacks import (
    EpochTensorBoard,
    LogInputsAndGraph,
    Recorder,
    StepCallbacks,
)
from inception_tf.training.compile import check_backend, compile_for, compiled_model, metrics_of
from inception_tf.training.curves import draw_curves, new_figure
from inception_tf.training.determinism import op_determinism
from inception_tf.training.distribute import Team, make_team, read_cluster
from inception_tf.training.fingerprint import (
    RESTORE_DATA,
    changed_setting,
    check_fingerprint,
    make_fingerprint,
)
from inception_tf.training.monitored import monitored_metric, scores_of
from inception_tf.training.optim.ema import AveragedEvaluation, averaged
from inception_tf.training.optim.recalibrate import recalibrate
from inception_tf.training.optim.skip_nonfinite import StopOnNonFinite
from inception_tf.training.phases import phase_at
from inception_tf.training.pictures import (
    ANSWERS,
    TRAIN_BATCHES,
    draw_answers,
    draw_training_batches,
)
from inception_tf.training.plan import TrainingPlan, make_plan
from inception_tf.training.pretrained import preprocessing_of_weights
from inception_tf.training.step_gradients import forget_step_gradients
from inception_tf.training.trackers import TrackerCallback, make_tracker
from inception_tf.weights.metadata import WeightsMetadata, layer_arguments, write_metadata

__all__ = ["train"]

log = logging.getLogger("inception_tf")


def train(
    config: Config,
    out: str | Path,
    *,
    resumed: bool = False,
    callbacks: Iterable = (),
    team: Team | None = None,
) -> dict:
    """Trains a network into a run folder.

    Args:
        config: the resolved configuration.
        out: the run folder.
        resumed: resume from the newest checkpoint in `out`.
        callbacks: further Keras callbacks for `fit`.
        team: the processes and devices that train together; None: all of this machine and of TF_CONFIG.
            Only the chief writes, and all need access to `out`.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: a mistake in the configuration or the data, another process that trains into `out`, a lost worker,
            or a diverged loss.
        Stopped: after Ctrl-C, with the state saved.

    Example:

        config = read_recipe("digits").override(["model.name=inception_v1", "training.epochs=1"])
        print(train(config, "runs/digits")["last"]["val_top1"])
    """
    check_backend(config)
    cluster = read_cluster()
    is_chief = team.is_chief if team else cluster is None or cluster.index == 0
    run = Run(Path(out))
    with ExitStack() as stack:

        def lock() -> None:
            """Two trainings would remove each other's checkpoints."""
            if is_chief:
                stack.enter_context(lock_folder(run.path, "trains into"))

        # First, because a run that is being trained is not to be resumed either.  A new folder only appears once
        # everything has been checked.
        is_new = not run.path.exists()
        if not is_new:
            lock()
        return _train(config, run, resumed, callbacks, team, lock if is_new else None)


def _train(
    config: Config,
    run: Run,
    resumed: bool,
    callbacks: Iterable,
    team: Team | None,
    lock_new_folder: Callable[[], None] | None,
) -> dict:
    config = _with_preprocessing(config, run, resumed)
    _check_folder(run, config, resumed)
    team = team or make_team()
    trackers = make_tracker(config.training.tracker) if team.is_chief else []
    team.check_steps(config.data.batch_size, config.training.steps_per_execution)
    plan = make_plan(config)
    new_figure()  # a missing matplotlib is reported now, not after hours
    equal = equal_images(plan.source)
    for warning in (*plan.source.warnings, duplicates_warning(equal), depth_warning(plan.train)):
        if warning and team.is_chief:
            log.warning("%s: %s", plan.source.name, warning)
    known = make_fingerprint(run, plan)
    progress = resume.Progress(images=len(plan.train), fingerprint=known)
    recorder = Recorder(run, progress, team=team, training=config.training)
    determinism = op_determinism(config.training.deterministic)
    watched = team.watched(lambda: recorder.progress.step)
    with determinism, forget_step_gradients(), team.scope(), watched:
        with team.strategy.scope():
            keras.utils.set_random_seed(config.training.seed)
            checkpoint = resume.latest(run.checkpoints) if resumed else None
            model = compiled_model(plan, pretrained=checkpoint is None)
            if checkpoint:
                restored = _restored(checkpoint, run, plan, model, known)
                recorder.resume_from(dataclasses.replace(restored, fingerprint=known))
        team.check_same(
            configuration=_digest(config, plan, known), checkpoint=recorder.progress.step
        )
        if lock_new_folder:
            lock_new_folder()
        if team.is_chief:
            run.write_config(config, known["run"])
            write_labels(run.labels_file, plan.source.labels)
        standard = _callbacks(plan, team, recorder, is_new=not resumed)
        tracker = TrackerCallback(trackers, run, config, lambda: recorder.progress.history)
        with tracker:
            _watched_fit(model, plan, team, recorder, [*standard, tracker, *callbacks])
            report = _finish(run, plan, model, recorder.progress, team)
            tracker.finish(report)
        return report


def _callbacks(plan: TrainingPlan, team: Team, recorder: Recorder, *, is_new: bool) -> list:
    """The callbacks of every run; TensorBoard's on the chief only, graph and images for a new run only."""
    max_bad_steps = plan.config.training.max_bad_steps
    callbacks = [
        AveragedEvaluation(),
        recorder,
        StopOnNonFinite(max_bad_steps, recorder.progress.step),
        *team.callbacks(),
    ]
    if not team.is_chief:
        return callbacks
    folder = recorder.run.path / "tensorboard"
    callbacks.append(EpochTensorBoard(folder))
    if is_new:
        shown = {"train": plan.training_data(), "validation": plan.validation_data()}
        draw = partial(
            draw_training_batches,
            labels=plan.source.labels,
            path=recorder.run.path / TRAIN_BATCHES,
            title=f"training images of {plan.source.name}, augmented",
        )
        callbacks.append(LogInputsAndGraph(folder, shown, draw=draw))
    return callbacks


def _watched_fit(
    model: keras.Model, plan: TrainingPlan, team: Team, recorder: Recorder, callbacks: list
) -> None:
    """Calls `_fit`, turning its errors into sentences and Ctrl-C into a stop."""
    try:
        with warnings.catch_warnings():
            # How many images can be read is only known at the end; Keras warns about a short epoch.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            _fit(model, plan, team, recorder, callbacks)
    except tf.errors.OpError as error:
        for bad in plan.bad:
            failure = bad.failure()
            if failure:
                raise failure from error
        raise
    finally:
        recorder.release_signals()


def _restored(
    checkpoint: Path, run: Run, plan: TrainingPlan, model: keras.Model, known: dict
) -> resume.Progress:
    """Restores `model` to the state of the checkpoint."""
    progress = resume.read_progress(checkpoint)
    _check_data(run, plan, progress)
    check_fingerprint(checkpoint, progress.fingerprint, run, plan, known)
    if progress.step > plan.config.training.epochs * plan.steps:
        raise UserError(
            f"{run.path} has done {progress.step // plan.steps} epochs; --epochs may be more than that, not"
            f" {plan.config.training.epochs}"
        )
    phase = plan.phase_before(progress.step)
    if phase.first:
        compile_for(model, plan, phase)
    return resume.restore(checkpoint, model)


def _fit(
    model: keras.Model, plan: TrainingPlan, team: Team, recorder: Recorder, callbacks: list
) -> None:
    """Calls `model.fit` for what is left, once for each phase and once for the rest of an interrupted epoch."""
    done, training = recorder.progress.step, plan.config.training
    phase, batch_size = plan.phase_before(done), plan.config.data.batch_size

    def targets(x, y):
        return x, dict.fromkeys(model.output, y)

    while done < training.epochs * plan.steps and not is_over(recorder.progress.history, training):
        epoch, offset = divmod(done, plan.steps)
        if epoch == phase.end:
            phase = phase_at(plan.config, epoch)
            with team.strategy.scope():
                compile_for(model, plan, phase)
        last = epoch + 1 if offset else phase.end
        model.fit(
            team.distribute(plan.training_data(done, team.shard).map(targets), batch_size),
            validation_data=team.distribute_whole(
                plan.validation_data(team.shard).map(targets), len(plan.validation), batch_size
            ),
            steps_per_epoch=plan.steps - offset,
            initial_epoch=epoch,
            epochs=last,
            callbacks=StepCallbacks(callbacks, model, epochs=last, steps=plan.steps - offset),
            shuffle=False,  # the data is shuffled already
            verbose=0,
        )
        done = last * plan.steps


def _with_preprocessing(config: Config, run: Run, resumed: bool) -> Config:
    """The configuration with `data.preprocessing` resolved, of a resumed run as it was."""
    if config.data.preprocessing is not None:
        return config
    if resumed:
        return config.with_preprocessing(run.config().data.preprocessing)
    size = config.model.size or find_network(config.model.name).size
    # A crop other than the default is the user's choice.
    if config.model.weights is None or config.data.crop != DataConfig().crop:
        return config
    theirs = preprocessing_of_weights(config.model.name, config.model.weights)
    return config.with_preprocessing(theirs.at_size(size).geometry()) if theirs else config


def _check_folder(run: Run, config: Config, resumed: bool) -> None:
    if resumed:
        before = run.config()
        key = changed_setting(before, config)
        if key:
            raise UserError(
                f"--resume uses the settings of {run.config_file}, where {key} is {before.flat()[key]!r} and not"
                f" {config.flat()[key]!r}; remove the other options, or use another --out"
            )
        if run.model_file.exists() and resume.latest(run.checkpoints) is None:
            raise UserError(
                f"{run.path} has a model and no checkpoint to resume from, as `inception-tf recalibrate` writes it; use"
                " another --out"
            )
    elif run.config_file.exists():
        raise UserError(
            f"{run.path} already holds a run; add --resume to continue it, or use another --out"
        )


def _check_data(run: Run, plan: TrainingPlan, progress: resume.Progress) -> None:
    """Checks that the data is still what the run started with."""
    start = f"{run.path} was trained on"
    if run.labels() != plan.source.labels:
        before, now = (", ".join(labels) for labels in (run.labels(), plan.source.labels))
        raise UserError(
            f"{start} the classes {before}, and {plan.source.name} has {now}; {RESTORE_DATA}"
        )
    if progress.images not in (None, len(plan.train)):
        raise UserError(
            f"{start} {progress.images} images, and {plan.source.name} has {len(plan.train)} now; {RESTORE_DATA}"
        )


def _digest(config: Config, plan: TrainingPlan, known: dict) -> int:
    """A number that is the same in two processes only if they train the same way on the same list of images."""
    # Not their contents: the times of copies on several machines differ.
    listed = [data["names"] for data in known["data"].values()]
    settings = json.dumps([config.as_dict(), plan.precision.policy, listed, plan.classes])
    return zlib.crc32(settings.encode())


def _finish(
    run: Run, plan: TrainingPlan, model: keras.Model, progress: resume.Progress, team: Team
) -> dict:
    """Writes the result: the plain network in float32 with the trained weights, the report, the curves."""
    result = create_model(plan.config.model.name, dtype="float32", **plan.model_arguments())
    history, training = progress.history, plan.config.training
    is_best = training.keep == BEST and take_best(run.checkpoints, result, history)
    if not is_best:
        with averaged(model):
            trained = {v.path: v for v in model.variables}
            for variable in result.weights:
                variable.assign(trained[variable.path])
    kept = best_row(history) if is_best else history[-1]
    scores = {"epoch": kept["epoch"], **scores_of(kept)}
    if team.is_chief:
        if training.recalibrate_batch_norm:
            batches = (images.numpy() for images, _ in plan.training_data())
            recalibrate(result, batches, training.recalibrate_batch_norm)
            scores |= _scores(result, plan)
        with atomic_path(run.model_file) as temporary:
            result.save(temporary)
            write_metadata(temporary, _weights_metadata(plan))
    report = _report(plan, result, progress) | {"keep": training.keep, "result": scores}
    if team.is_chief:
        atomic_write_text(run.path / "report.json", json.dumps(report, indent=2) + "\n")
        title = f"{plan.config.model.name} on {plan.source.name}"
        draw_curves(history, run.path / "curves.png", title=title)
        draw_answers(result, plan, run.path / ANSWERS, f"{title}: answers in validation")
    team.wait()  # no process ends before everything is written
    return report


def _weights_metadata(plan: TrainingPlan) -> WeightsMetadata:
    """What `model.keras` says of itself, where the run folder is not beside it."""
    model = plan.config.model
    layers, switches = layer_arguments(model.structure())
    preprocessing = preprocessing_of_run(plan.config.data, plan.size)
    return WeightsMetadata(model.name, layers | switches, preprocessing)


def _scores(network: keras.Model, plan: TrainingPlan) -> dict:
    """`scores_of` a network that is not the one which the last validation saw."""
    forward = compiled_forward(network)
    metrics = metrics_of(plan, from_logits=False)
    for images, labels in plan.validation_data():
        found = forward(images.numpy())
        for metric in metrics:
            metric.update_state(labels.numpy(), found)
    return {f"val_{metric.name}": float(metric.result()) for metric in metrics}


def _report(plan: TrainingPlan, result: keras.Model, progress: resume.Progress) -> dict:
    history = progress.history
    best = best_row(history)
    score = f"val_{monitored_metric(best)}"
    return {
        "model": plan.config.model.name,
        "parameters": result.count_params(),
        "data": plan.source.name,
        "classes": plan.classes,
        "images": {name: len(split) for name, split in plan.source.splits.items()},
        "skipped": {name: reason for bad in plan.bad for name, reason in bad.reasons.items()},
        "recalibrated_batches": plan.config.training.recalibrate_batch_norm,
        "preprocessing": dataclasses.asdict(plan.preprocessing),
        "precision": plan.precision.policy,
        "precision_reason": plan.precision.reason,
        "epochs": len(history),
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "last": scores_of(history[-1]),
        "best": {score: best[score], "epoch": best["epoch"]},
        "environment": environment(),
    }
