# SPDX-License-Identifier: Apache-2.0
"""What is trained when: the whole network, or of a fine-tuning its new classifiers first and then the rest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import keras

from inception_tf.arch.spec import Network
from inception_tf.config import Config, OptimizerConfig
from inception_tf.nn.network import HIDDEN_NORM, LOGITS

__all__ = ["Phase", "phase_optimizer", "freeze_layers", "phase_at", "phases_of"]


@dataclass(frozen=True)
class Phase:
    """Epochs with one optimizer, whose schedule begins and ends with them."""

    first: int  # epoch, from 0
    end: int  # the epoch after its last
    head_only: bool = False  # all but the classifiers is frozen

    @property
    def epochs(self) -> int:
        return self.end - self.first


def phases_of(config: Config) -> tuple[Phase, ...]:
    """One phase, or two where `training.head_epochs` asks for them."""
    training = config.training
    if not training.head_epochs:
        return (Phase(0, training.epochs),)
    return (
        Phase(0, training.head_epochs, head_only=True),
        Phase(training.head_epochs, training.epochs),
    )


def phase_at(config: Config, epoch: int) -> Phase:
    """The phase that holds `epoch`, from 0."""
    return next(phase for phase in phases_of(config) if epoch < phase.end)


def phase_optimizer(config: Config, phase: Phase) -> OptimizerConfig:
    """The recipe's optimizer, for the classifiers alone at a rate of its own that stays as it is."""
    if not phase.head_only:
        return config.optimizer
    rate = config.optimizer.head_learning_rate
    return dataclasses.replace(
        config.optimizer, learning_rate=rate, schedule="constant", warmup_epochs=0
    )


def freeze_layers(model: keras.Model, config: Config, network: Network, phase: Phase) -> None:
    """Freezes what the phase leaves as it is; frozen batch normalization uses its moving statistics."""
    heads = (LOGITS, HIDDEN_NORM, *(a.name for a in network.auxiliaries))
    for layer in model.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        frozen_norm = is_norm and config.training.freeze_batch_norm
        in_head = layer.name.startswith(heads)
        layer.trainable = in_head or not (phase.head_only or frozen_norm)
