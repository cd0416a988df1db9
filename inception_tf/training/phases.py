# SPDX-License-Identifier: Apache-2.0
"""The phases of a training: one, or for fine-tuning the new classifiers first and then the whole network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import keras

from inception_tf.arch.spec import Network, depth_of
from inception_tf.config import Config, OptimizerConfig
from inception_tf.nn.network import HIDDEN_NORM, LOGITS

__all__ = ["Phase", "freeze_layers", "layer_rates", "phase_at", "phase_optimizer", "phases_of"]


@dataclass(frozen=True)
class Phase:
    """A range of epochs with one optimizer, whose schedule starts and ends with them."""

    first: int  # epoch, from 0
    end: int  # the epoch after the last one
    head_only: bool = False  # everything but the classifiers is frozen

    @property
    def epochs(self) -> int:
        return self.end - self.first


def phases_of(config: Config) -> tuple[Phase, ...]:
    """The phases of a run.

    Args:
        config: of the run.

    Returns:
        One phase, or two where `training.head_epochs` is above 0.
    """
    training = config.training
    if not training.head_epochs:
        return (Phase(0, training.epochs),)
    return (
        Phase(0, training.head_epochs, head_only=True),
        Phase(training.head_epochs, training.epochs),
    )


def phase_at(config: Config, epoch: int) -> Phase:
    """The phase that an epoch belongs to.

    Args:
        config: of the run.
        epoch: counted from 0.

    Returns:
        Its phase.
    """
    return next(phase for phase in phases_of(config) if epoch < phase.end)


def phase_optimizer(config: Config, phase: Phase) -> OptimizerConfig:
    """The optimizer settings of a phase.

    Args:
        config: of the run.
        phase: one of `phases_of(config)`.

    Returns:
        The recipe's; for the classifiers alone with `head_learning_rate`, constant and without warm-up.
    """
    if not phase.head_only:
        return config.optimizer
    learning_rate = config.optimizer.head_learning_rate
    return dataclasses.replace(
        config.optimizer, learning_rate=learning_rate, schedule="constant", warmup_epochs=0
    )


def layer_rates(network: Network, decay: float) -> dict[str, float]:
    """Factors on the learning rate that fall with the distance from the classifier, as in Clark et al. 2020 (ELECTRA).

    Args:
        network: The network's description.
        decay: The factor for each module with weights, in (0, 1].

    Returns:
        By the beginning of a layer's name: `decay` for the last module of the backbone, its square for the one
        before; classifiers are not among them, nor is anything where `decay` is 1.
    """
    if decay == 1:
        return {}
    modules = [name for name, step in network.backbone if depth_of(step)]
    return {name: decay ** (number + 1) for number, name in enumerate(reversed(modules))}


def freeze_layers(model: keras.Model, config: Config, network: Network, phase: Phase) -> None:
    """Sets which layers a phase trains; frozen batch normalization uses its moving statistics.

    Args:
        model: the network, changed in place; compile it afterwards.
        config: of the run.
        network: its description, for the names of the classifiers.
        phase: one of `phases_of(config)`.
    """
    heads = (LOGITS, HIDDEN_NORM, *(a.name for a in network.auxiliaries))
    for layer in model.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        frozen_norm = is_norm and config.training.freeze_batch_norm
        in_head = layer.name.startswith(heads)
        layer.trainable = in_head or not (phase.head_only or frozen_norm)
