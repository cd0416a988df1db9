# SPDX-License-Identifier: Apache-2.0
"""Training: a configuration into a compiled model, its data and callbacks, and `model.fit` over them."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.applications import create_model
from inception_tf.config import Config
from inception_tf.data import images, pipeline
from inception_tf.data.bad import BadImages
from inception_tf.data.cache import keep
from inception_tf.data.labels import write_labels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources import Source, Split, open_source
from inception_tf.device import Precision, environment, resolve_precision
from inception_tf.errors import UserError
from inception_tf.files import aside, write_whole
from inception_tf.models import find
from inception_tf.models.build import LOGITS, endpoints
from inception_tf.training import resume
from inception_tf.training.averages import (
    AveragedEvaluation,
    MovingAverage,
    averaged,
    moving_statistics,
)
from inception_tf.training.callbacks import Recorder
from inception_tf.training.curves import draw_curves, new_figure
from inception_tf.training.distribute import DistributedModel, Team, make_team
from inception_tf.training.optimizers import LossScaleOptimizer, make_optimizer
from inception_tf.training.run import Run

__all__ = ["Plan", "compiled_model", "make_plan", "train"]


@dataclass(frozen=True)
class Plan:
    """A configuration held against its data: all numbers that a run needs, none left open."""

    config: Config
    source: Source
    train: Split
    validation: Split
    bad: tuple[BadImages, BadImages]  # of `train` and of `validation`, filled while they are read
    size: int  # pixels
    steps: int  # an epoch
    precision: Precision

    @property
    def classes(self) -> int:
        return len(self.source.labels)

    def model_arguments(self) -> dict:
        """Arguments of `create_model` for this run."""
        model = self.config.model
        return {
            "input_shape": (self.size, self.size, 3),
            "classes": self.classes,
            "dropout": model.dropout,
            "batch_norm_momentum": model.batch_norm_momentum,
            "weight_decay": model.weight_decay,
            "width_multiplier": model.width_multiplier,
            "activation": model.activation,
        }

    def training_data(self, start: int = 0, share: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        training = self.config.training
        return pipeline.training(
            self.train,
            self.config.data,
            size=self.size,
            classes=self.classes,
            seed=training.seed,
            epochs=training.epochs,
            start=start,
            share=share,
            bad=self.bad[0],
        )

    def validation_data(self, share: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        data = self.config.data
        steps = images.evaluation_steps(Preprocessing(self.size, data.crop))
        batches = pipeline.evaluation(
            self.validation, steps, batch_size=data.batch_size, share=share, bad=self.bad[1]
        )
        return pipeline.one_hot(batches, self.validation, self.classes)


def make_plan(config: Config) -> Plan:
    """Opens the data and settles sizes, steps and precision; every mistake in them is found here."""
    network, data = find(config.model.name), config.data
    source = open_source(data.name, label_offset=data.label_offset)
    train, validation = (keep(source.split(part), data.cache) for part in ("train", None))
    return Plan(
        config,
        source,
        train,
        validation,
        bad=(BadImages(train, data.max_bad), BadImages(validation, data.max_bad)),
        size=config.model.size or network.size,
        steps=pipeline.steps_per_epoch(train, data.batch_size),
        precision=resolve_precision(config.training.precision),
    )


def compiled_model(plan: Plan) -> keras.Model:
    """The network with losses, metrics and optimizer, its outputs logits: what `model.fit` trains.

    With auxiliary classifiers the outputs are a dict, and each auxiliary loss counts by its published weight.
    """
    config = plan.config
    network = create_model(
        config.model.name,
        aux_logits=config.model.aux_logits,
        dtype=plan.precision.policy,
        **plan.model_arguments(),
    )
    ends = endpoints(network)
    # Losses from logits, not from probabilities: exact where a softmax would round to zero.
    outputs, weights = {"predictions": ends[LOGITS]}, {"predictions": 1.0}
    if config.model.aux_logits:
        for auxiliary in find(config.model.name).auxiliaries:
            outputs[auxiliary.output] = ends[auxiliary.name]
            chosen = config.training.aux_weight
            weights[auxiliary.output] = auxiliary.loss_weight if chosen is None else chosen
    model = DistributedModel(network.input, outputs, name=network.name)
    smoothing = config.training.label_smoothing
    model.compile(
        optimizer=_optimizer(plan, model),
        loss={
            name: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
            for name in outputs
        },
        loss_weights=weights,
        metrics={
            "predictions": [
                keras.metrics.CategoricalAccuracy(name="top1"),
                keras.metrics.TopKCategoricalAccuracy(k=5, name="top5"),
            ]
        },
        jit_compile=False,
    )
    return model


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
    `out`.  Raises `UserError` for a mistake in the configuration or the data and for a worker that is
    lost, `Stopped` after Ctrl-C with the state saved.
    """
    run = Run(Path(out))
    _check_folder(run, config, resumed)
    team = team or make_team()
    team.check_batch(config.data.batch_size)
    plan = make_plan(config)
    new_figure()  # what the end of the run needs must not be missing after hours
    recorder = Recorder(run, resume.Progress(), team=team)
    with team.watched(lambda: recorder.progress.step):
        with team.strategy.scope():
            keras.utils.set_random_seed(config.training.seed)
            model = compiled_model(plan)
            model.optimizer.build(model.trainable_variables)
        checkpoint = resume.latest(run.checkpoints) if resumed else None
        if checkpoint:
            recorder.go_on_from(resume.restore(checkpoint, model))
        team.check_same(configuration=_digest(config, plan), checkpoint=recorder.progress.step)
        if team.is_chief and not resumed:
            run.write_config(config)
            write_labels(run.labels_file, plan.source.labels)
        _watched_fit(model, plan, team, recorder, callbacks, write_graph=not resumed)
        return _finish(run, plan, model, recorder.progress, team)


def _watched_fit(model, plan: Plan, team: Team, recorder: Recorder, callbacks, write_graph) -> None:
    """`_fit` with the callbacks of every run, its errors as sentences and Ctrl-C as a stop."""
    every = [AveragedEvaluation(), recorder]
    if team.is_chief:
        folder = recorder.run.path / "tensorboard"
        every.append(keras.callbacks.TensorBoard(folder, write_graph=write_graph))
    try:
        with warnings.catch_warnings():
            # How many images can be read is known only when all are; Keras thinks that one too few.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            _fit(model, plan, team, recorder.progress.step, [*every, *callbacks])
    except tf.errors.OpError as error:
        for bad in plan.bad:
            if bad.exceeded:
                raise bad.error() from error
        raise
    finally:
        recorder.release_signals()


def _fit(model: keras.Model, plan: Plan, team: Team, done: int, callbacks: list) -> None:
    """`model.fit` from step `done`; an epoch that was left in the middle is finished in a call of its own."""
    epochs, batch_size = plan.config.training.epochs, plan.config.data.batch_size

    def targets(x, y):
        return x, dict.fromkeys(model.output, y)

    while done < epochs * plan.steps:
        epoch, offset = divmod(done, plan.steps)
        last = epoch + 1 if offset else epochs
        model.fit(
            team.dealt(plan.training_data(done, team.share).map(targets), batch_size),
            validation_data=team.dealt_whole(
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


def _optimizer(plan: Plan, model: keras.Model) -> keras.Optimizer:
    """The recipe's optimizer, its moving averages around it, loss scaling around both."""
    config = plan.config.optimizer
    optimizer = make_optimizer(
        config, steps_per_epoch=plan.steps, epochs=plan.config.training.epochs
    )
    if config.ema is not None:
        optimizer = MovingAverage(optimizer, config.ema, partial(moving_statistics, model))
    if plan.precision.policy == "mixed_float16":
        optimizer = LossScaleOptimizer(optimizer)
    return optimizer


def _check_folder(run: Run, config: Config, resumed: bool) -> None:
    if resumed:
        theirs, ours = run.config().as_dict(), config.as_dict()
        for section, values in ours.items():
            if values != theirs[section]:
                raise UserError(
                    f"--resume goes on with the settings of {run.config_file}, and section '{section}' differs:"
                    f" {values} against {theirs[section]}; leave the other options out, or take another --out"
                )
    elif run.config_file.exists():
        raise UserError(
            f"{run.path} holds a run already; add --resume to go on with it, or take another --out"
        )


def _digest(config: Config, plan: Plan) -> int:
    """A number that two processes share only if they train the same way."""
    settings = json.dumps([config.as_dict(), plan.precision.policy, len(plan.train), plan.classes])
    return zlib.crc32(settings.encode())


def _finish(
    run: Run, plan: Plan, model: keras.Model, progress: resume.Progress, team: Team
) -> dict:
    """Writes the result: the plain network in float32 with the trained weights, the report, the curves."""
    result = create_model(plan.config.model.name, dtype="float32", **plan.model_arguments())
    with averaged(model):
        trained = {v.path: v for v in model.variables}
        for variable in result.weights:
            variable.assign(trained[variable.path])
    history = progress.history
    best = max(history, key=lambda row: row["val_top1"])
    report = {
        "model": plan.config.model.name,
        "parameters": result.count_params(),
        "data": plan.source.name,
        "images": {name: len(split) for name, split in plan.source.splits.items()},
        "skipped": {name: reason for bad in plan.bad for name, reason in bad.reasons.items()},
        "precision": plan.precision.policy,
        "precision_reason": plan.precision.reason,
        "epochs": len(history),
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "last": {name: history[-1][name] for name in ("val_top1", "val_top5")},
        "best": {"val_top1": best["val_top1"], "epoch": best["epoch"]},
        "environment": environment(),
    }
    if team.is_chief:
        with aside(run.model_file) as temporary:
            result.save(temporary)
        write_whole(run.path / "report.json", json.dumps(report, indent=2) + "\n")
        title = f"{plan.config.model.name} on {plan.source.name}"
        draw_curves(history, run.path / "curves.png", title=title)
    team.wait()  # nobody leaves before all is written
    return report
