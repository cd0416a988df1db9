# SPDX-License-Identifier: Apache-2.0
"""Training: a configuration into a compiled model, its data and callbacks, and `model.fit` over them."""

from __future__ import annotations

import json
import warnings
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
from inception_tf.errors import UserError, unknown
from inception_tf.files import aside, write_whole
from inception_tf.models import find, switches
from inception_tf.models.build import LOGITS, endpoints
from inception_tf.spec import Auxiliary
from inception_tf.training import resume
from inception_tf.training.averages import (
    AveragedEvaluation,
    MovingAverage,
    averaged,
    moving_statistics,
    warm_up_statistics,
)
from inception_tf.training.callbacks import InputImages, Recorder
from inception_tf.training.curves import draw_curves, new_figure
from inception_tf.training.finite import FiniteSteps, StopNotFinite
from inception_tf.training.optimizers import make_optimizer
from inception_tf.training.population import recalibrate
from inception_tf.training.pretrained import begin_with
from inception_tf.training.run import Run
from inception_tf.training.stages import Stage, optimizer_of, set_trained, stage_at, stages_of

__all__ = ["Plan", "compile_for", "compiled_model", "make_plan", "train"]

# Settings that a run may be given anew when it goes on: they touch its result alone.
CHANGEABLE = ("training.recalibrate_batch_norm",)


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
            "initializer_gain": model.initializer_gain,
            **model.structure(),
        }

    def stage_before(self, step: int) -> Stage:
        """The stage in which step `step`, counted from 1, was taken; the first one for 0."""
        return stage_at(self.config, max(step - 1, 0) // self.steps)

    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        """Of the classifiers that are trained and then dropped."""
        wanted = self.config.model.aux_logits is not False
        return find(self.config.model.name).auxiliaries if wanted else ()

    def training_data(self, start: int = 0) -> tf.data.Dataset:
        training = self.config.training
        return pipeline.training(
            self.train,
            self.config.data,
            size=self.size,
            classes=self.classes,
            seed=training.seed,
            epochs=training.epochs,
            start=start,
            bad=self.bad[0],
        )

    def validation_data(self) -> tf.data.Dataset:
        data = self.config.data
        steps = images.evaluation_steps(Preprocessing(self.size, data.crop))
        batches = pipeline.evaluation(
            self.validation, steps, batch_size=data.batch_size, bad=self.bad[1]
        )
        return pipeline.one_hot(batches, self.validation, self.classes)


def make_plan(config: Config) -> Plan:
    """Opens the data and settles sizes, steps and precision; every mistake in them is found here."""
    network, data = find(config.model.name), config.data
    _check_switches(config)
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

    With auxiliary classifiers the outputs are a dict, and each auxiliary loss counts by its published
    weight.  Of a recipe with two stages it is the first one's; `compile_for` goes on to the second.
    """
    config = plan.config.model
    network = create_model(
        config.name,
        aux_logits=bool(config.aux_logits or plan.auxiliaries()),
        dtype=plan.precision.policy,
        **plan.model_arguments(),
    )
    if config.weights:
        begin_with(network, config.name, config.weights, config.switches, new_head=config.new_head)
    ends = endpoints(network)
    # Losses from logits, not from probabilities: exact where a softmax would round to zero.
    outputs = {"predictions": ends[LOGITS]}
    outputs |= {auxiliary.output: ends[auxiliary.name] for auxiliary in plan.auxiliaries()}
    model = keras.Model(network.input, outputs, name=network.name)
    compile_for(model, plan, stages_of(plan.config)[0])
    return model


def compile_for(model: keras.Model, plan: Plan, stage: Stage) -> None:
    """Compiles `model` for a stage of its training, with a fresh optimizer."""
    training = plan.config.training
    set_trained(model, plan.config, stage)
    weights = {"predictions": 1.0}
    for auxiliary in plan.auxiliaries():
        chosen = training.aux_weight
        weights[auxiliary.output] = auxiliary.loss_weight if chosen is None else chosen
    model.compile(
        optimizer=_optimizer(plan, stage, model),
        loss={
            name: keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=training.label_smoothing
            )
            for name in weights
        },
        loss_weights=weights,
        metrics={
            "predictions": [
                keras.metrics.CategoricalAccuracy(name="top1"),
                keras.metrics.TopKCategoricalAccuracy(k=5, name="top5"),
            ]
        },
        steps_per_execution=training.steps_per_execution,
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    if training.warm_up_statistics:
        warm_up_statistics(model)


def train(
    config: Config, out: str | Path, *, resumed: bool = False, callbacks: Iterable = ()
) -> dict:
    """Trains by `config` into the run folder `out` and returns the content of its `report.json`.

    resumed: go on from the newest checkpoint in `out`.  Raises `UserError` for a mistake in the
    configuration or the data, `Stopped` after Ctrl-C with the state saved.
    """
    run = Run(Path(out))
    _check_folder(run, config, resumed)
    plan = make_plan(config)
    new_figure()  # what the end of the run needs must not be missing after hours
    if config.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.training.seed)
    model = compiled_model(plan)
    progress = _go_on(run, plan, model) if resumed else resume.Progress()
    run.write_config(config)
    if not resumed:
        write_labels(run.labels_file, plan.source.labels)
    recorder = Recorder(run, progress)
    own = [
        AveragedEvaluation(),
        recorder,
        StopNotFinite(config.training.max_bad_steps, progress.step),
        keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=not resumed),
    ]
    if not resumed:
        shown = {"train": plan.training_data(), "validation": plan.validation_data()}
        own.append(InputImages(run.path / "tensorboard", shown))
    try:
        with warnings.catch_warnings():
            # How many images can be read is known only when all are; Keras thinks that one too few.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            _fit(model, plan, progress.step, [*own, *callbacks])
    except tf.errors.OpError as error:
        for bad in plan.bad:
            if bad.exceeded:
                raise bad.error() from error
        raise
    finally:
        recorder.release_signals()
    return _finish(run, plan, model, recorder.progress)


def _go_on(run: Run, plan: Plan, model: keras.Model) -> resume.Progress:
    """Brings `model` to where the newest checkpoint was saved."""
    checkpoint = resume.latest(run.checkpoints)
    if checkpoint is None:
        return resume.Progress()
    stage = plan.stage_before(resume.read_progress(checkpoint).step)
    if stage.first:
        compile_for(model, plan, stage)
    return resume.restore(checkpoint, model)


def _fit(model: keras.Model, plan: Plan, done: int, callbacks: list) -> None:
    """`model.fit` from step `done`, a call for each stage and one for the rest of an epoch left in its middle."""
    stage = plan.stage_before(done)
    while done < plan.config.training.epochs * plan.steps:
        epoch, offset = divmod(done, plan.steps)
        if epoch == stage.end:
            stage = stage_at(plan.config, epoch)
            compile_for(model, plan, stage)
        last = epoch + 1 if offset else stage.end
        model.fit(
            plan.training_data(done).map(lambda x, y: (x, dict.fromkeys(model.output, y))),
            validation_data=plan.validation_data().map(
                lambda x, y: (x, dict.fromkeys(model.output, y))
            ),
            steps_per_epoch=plan.steps - offset,
            initial_epoch=epoch,
            epochs=last,
            callbacks=callbacks,
            shuffle=False,  # the data is shuffled already
            verbose=0,
        )
        done = last * plan.steps


def _optimizer(plan: Plan, stage: Stage, model: keras.Model) -> keras.Optimizer:
    """The recipe's optimizer, its moving averages around it, around both what leaves bad steps out."""
    config = optimizer_of(plan.config, stage)
    optimizer = make_optimizer(config, steps_per_epoch=plan.steps, epochs=stage.epochs)
    statistics = partial(moving_statistics, model)
    if config.ema is not None:
        optimizer = MovingAverage(optimizer, config.ema, statistics)
    scaled = plan.precision.policy == "mixed_float16"
    return FiniteSteps(optimizer, scaled=scaled, statistics=statistics)


def _check_switches(config: Config) -> None:
    own = switches(config.model.name)
    for switch, value in config.model.switches.items():
        if switch not in own:
            raise unknown(f"switch of {config.model.name}", switch, own)
        if type(value) is not type(own[switch]):
            raise UserError(
                f"model.switches.{switch} takes a value such as {own[switch]!r}, got {value!r}"
            )


def _check_folder(run: Run, config: Config, resumed: bool) -> None:
    if resumed:
        theirs = _flat(run.config())
        for key, now in _flat(config).items():
            before = theirs[key]
            if before != now and key not in CHANGEABLE:
                raise UserError(
                    f"--resume goes on with the settings of {run.config_file}, where {key} is {before!r} and not"
                    f" {now!r}; leave the other options out, or take another --out"
                )
    elif run.config_file.exists():
        raise UserError(
            f"{run.path} holds a run already; add --resume to go on with it, or take another --out"
        )


def _flat(config: Config) -> dict:
    """`{"model.size": 48, ...}`; two recipes with the same settings are the same."""
    sections = {name: v for name, v in config.as_dict().items() if isinstance(v, dict)}
    return {f"{name}.{key}": value for name, v in sections.items() for key, value in v.items()}


def _finish(run: Run, plan: Plan, model: keras.Model, progress: resume.Progress) -> dict:
    """Writes the result: the plain network in float32 with the trained weights, the report, the curves."""
    result = create_model(plan.config.model.name, dtype="float32", **plan.model_arguments())
    with averaged(model):
        trained = {v.path: v for v in model.variables}
        for variable in result.weights:
            variable.assign(trained[variable.path])
    recalibrated = plan.config.training.recalibrate_batch_norm
    if recalibrated:
        recalibrate(result, plan.training_data(), recalibrated)
    with aside(run.model_file) as temporary:
        result.save(temporary)
    history = progress.history
    best = max(history, key=lambda row: row["val_top1"])
    report = {
        "model": plan.config.model.name,
        "parameters": result.count_params(),
        "data": plan.source.name,
        "images": {name: len(split) for name, split in plan.source.splits.items()},
        "skipped": {name: reason for bad in plan.bad for name, reason in bad.reasons.items()},
        "recalibrated_batches": recalibrated,
        "precision": plan.precision.policy,
        "precision_reason": plan.precision.reason,
        "epochs": len(history),
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "last": {name: history[-1][name] for name in ("val_top1", "val_top5")},
        "best": {"val_top1": best["val_top1"], "epoch": best["epoch"]},
        "environment": environment(),
    }
    write_whole(run.path / "report.json", json.dumps(report, indent=2) + "\n")
    draw_curves(
        history, run.path / "curves.png", title=f"{plan.config.model.name} on {plan.source.name}"
    )
    return report
