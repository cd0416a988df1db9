# SPDX-License-Identifier: Apache-2.0
"""A configuration resolved against its data: every number that a training needs, and its image pipelines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import tensorflow as tf

from inception_tf.config import Config
from inception_tf.data import pipeline
from inception_tf.data.cache import cache_decoded
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing, preprocessing_of_run
from inception_tf.data.sampling import steps_per_epoch
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import Source, Split, open_source
from inception_tf.errors import UserError, unknown
from inception_tf.host.hardware import resolve_precision
from inception_tf.models import switches, variant, wrong_switch
from inception_tf.training.losses import class_weights
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.phases import phases_of

__all__ = ["TrainingPlan", "make_plan"]

DECAYING = "adamw"  # the optimizer with a weight decay of its own


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(ModelPlan):
    """A configuration resolved against its data, with every number that a run needs.

    Example:

        plan = make_plan(read_recipe("digits"))
        images, labels = next(iter(plan.training_data()))
    """

    source: Source
    train: Split
    validation: Split
    preprocessing: Preprocessing  # of the validation images
    bad: tuple[BadImages, BadImages]  # of `train` and of `validation`, filled while they are read
    # Pipelines by their arguments: tracing one takes about a second, and reading it again starts it from its first step.
    _traced: dict[tuple, tf.data.Dataset] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def training_data(self, start: int = 0, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """The training batches, shuffled and augmented, from a step to the end of the run.

        Args:
            start: the first step, counted from 0.
            shard: (index, count): which part of each batch to read.

        Returns:
            Batches ((B, size, size, 3) float32 in [-1, 1], (B, classes) one-hot or multi-label float32).
        """
        training = self.config.training
        return self._traced_once(
            ("training", start, shard),
            lambda: pipeline.training_batches(
                self.train,
                self.config.data,
                size=self.size,
                classes=self.classes,
                seed=training.seed,
                epochs=training.epochs,
                start=start,
                shard=shard,
                bad=self.bad[0],
            ),
        )

    def validation_data(self, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """The validation batches, in order, without augmentation.

        Args:
            shard: (index, count): which part of the images to read.

        Returns:
            Batches ((B, size, size, 3) float32 in [-1, 1], (B, classes) one-hot or multi-label float32).
        """
        return self._traced_once(
            ("validation", shard),
            lambda: pipeline.with_one_hot_labels(
                pipeline.evaluation_batches(
                    self.validation,
                    transforms.evaluation_steps(self.preprocessing),
                    batch_size=self.config.data.batch_size,
                    shard=shard,
                    bad=self.bad[1],
                ),
                self.validation,
                self.classes,
            ),
        )

    def _traced_once(self, key: tuple, trace: Callable[[], tf.data.Dataset]) -> tf.data.Dataset:
        if key not in self._traced:
            self._traced[key] = trace()
        return self._traced[key]


def make_plan(config: Config) -> TrainingPlan:
    """Opens the data and resolves sizes, steps and precision; finds every mistake in the configuration.

    Args:
        config: of the run.

    Returns:
        The plan.

    Raises:
        UserError: unknown network, switch or data, or a value of the wrong type.
    """
    data = config.data
    _check_switches(config)
    network = variant(config.model.name, **config.model.switches)
    _check_recalibration(config)
    _check_weight_decay(config)
    source = open_source(data.name, **data.reading())
    train, validation = (cache_decoded(source.split(part), data.cache) for part in ("train", None))
    size = config.model.size or network.size
    steps = steps_per_epoch(train, data.batch_size)
    _check_accumulation(config, steps)
    _check_steps_per_execution(config, steps)
    return TrainingPlan(
        config,
        network,
        classes=len(source.labels),
        size=size,
        steps=steps,
        precision=resolve_precision(config.training.precision),
        class_weights=class_weights(config.training.class_weights, train, source.labels),
        source=source,
        train=train,
        validation=validation,
        preprocessing=preprocessing_of_run(data, size),
        bad=(
            BadImages(train, data.max_bad, "--set data.max_bad=FRACTION"),
            BadImages(validation, data.max_bad, "--set data.max_bad=FRACTION"),
        ),
    )


def _check_switches(config: Config) -> None:
    known = switches(config.model.name)
    for switch, value in config.model.switches.items():
        if switch not in known:
            raise unknown(f"switch of {config.model.name}", switch, known)
        example = wrong_switch(config.model.name, switch, value)
        if example is not None:
            raise UserError(
                f"model.switches.{switch} must be a value such as {example!r}, got {value!r}"
            )


def _check_recalibration(config: Config) -> None:
    chosen = variant(config.model.name, **config.model.switches)
    if config.training.recalibrate_batch_norm and not (
        chosen.batch_norm or chosen.hidden_batch_norm
    ):
        raise UserError(
            f"training.recalibrate_batch_norm: {config.model.name} has no batch normalization; set it to 0"
        )


def _check_weight_decay(config: Config) -> None:
    """Not in `Config`, so that a run which ignored it still loads."""
    optimizer = config.optimizer
    if optimizer.weight_decay and optimizer.name != DECAYING:
        raise UserError(
            f"optimizer.weight_decay {optimizer.weight_decay} is of {DECAYING}, and {optimizer.name} does not use it; take"
            f" optimizer.name={DECAYING}, or model.weight_decay, which is slim's L2, for any optimizer"
        )


def _check_steps_per_execution(config: Config, steps: int) -> None:
    """Keras runs whole calls: the last one of an epoch would train on images of the next."""
    together = config.training.steps_per_execution
    if steps % together:
        less = max(number for number in range(1, together) if steps % number == 0)
        raise UserError(
            f"training.steps_per_execution {together} does not divide the {steps} steps of an epoch; take {less}"
        )


def _check_accumulation(config: Config, steps: int) -> None:
    count = config.optimizer.accumulation_steps
    shortest = min(phase.epochs * steps for phase in phases_of(config))
    if count > shortest:
        raise UserError(
            f"optimizer.accumulation_steps {count} is more than the {shortest} steps that there are with one optimizer, so"
            f" that no weight would change; take at most {shortest}"
        )
