# SPDX-License-Identifier: Apache-2.0
"""Optimizers by name with the learning rate as a function of the step."""

from __future__ import annotations

import keras

from inception_tf.config import OptimizerConfig
from inception_tf.errors import unknown

__all__ = ["make_optimizer", "make_schedule"]

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": lambda learning_rate: keras.optimizers.RMSprop(learning_rate, momentum=0.9),
    "sgd": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True),
}


def make_schedule(config: OptimizerConfig, *, steps_per_epoch: int, epochs: int):
    """Rate by step: a rise from zero over the warm-up, then a cosine down to `final_rate` of the highest."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    total = steps_per_epoch * epochs
    warmup = min(warmup, max(total - 1, 0))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=total - warmup,
        alpha=config.final_rate,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(
    config: OptimizerConfig, *, steps_per_epoch: int, epochs: int
) -> keras.Optimizer:
    """The optimizer a recipe names; `UserError` with the nearest name for any other."""
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    schedule = make_schedule(config, steps_per_epoch=steps_per_epoch, epochs=epochs)
    return OPTIMIZERS[config.name](learning_rate=schedule)
