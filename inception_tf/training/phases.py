# SPDX-License-Identifier: Apache-2.0
"""What is trained when: the whole network, or of a fine-tuning its new classifiers first and then the rest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import keras

from inception_tf.arch.spec import Network
from inception_tf.config import Config, OptimizerConfig
from inception_tf.nn.network import HIDDEN_NORM, LOGITS

__all__ = ["Stage", "optimizer_of", "set_trained", "stage_at", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """Epochs with one optimizer, whose schedule begins and ends with them."""

    first: int  # epoch, from 0
    end: int  # the epoch after its last
    head_only: bool = False  # all but the classifiers is frozen

    @property
    def epochs(self) -> int:
        return self.end - self.first


def stages_of(config: Config) -> tuple[Stage, ...]:
    """One stage, or two where `training.head_epochs` asks for them."""
    training = config.training
    if not training.head_epochs:
        return (Stage(0, training.epochs),)
    return (
        Stage(0, training.head_epochs, head_only=True),
        Stage(training.head_epochs, training.epochs),
    )


def stage_at(config: Config, epoch: int) -> Stage:
    """The stage that holds `epoch`, from 0."""
    return next(stage for stage in stages_of(config) if epoch < stage.end)


def optimizer_of(config: Config, stage: Stage) -> OptimizerConfig:
    """The recipe's optimizer, for the classifiers alone at a rate of its own that stays as it is."""
    if not stage.head_only:
        return config.optimizer
    rate = config.optimizer.head_learning_rate
    return dataclasses.replace(
        config.optimizer, learning_rate=rate, schedule="constant", warmup_epochs=0
    )


def set_trained(model: keras.Model, config: Config, network: Network, stage: Stage) -> None:
    """Freezes what the stage leaves as it is; frozen batch normalization uses its moving statistics."""
    heads = (LOGITS, HIDDEN_NORM, *(a.name for a in network.auxiliaries))
    for layer in model.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        frozen_norm = is_norm and config.training.freeze_batch_norm
        in_head = layer.name.startswith(heads)
        layer.trainable = in_head or not (stage.head_only or frozen_norm)
