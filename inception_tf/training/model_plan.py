# SPDX-License-Identifier: Apache-2.0
"""What is needed to compile a network for training, without its data."""

from __future__ import annotations

from dataclasses import dataclass

from inception_tf.arch.spec import Auxiliary, Network
from inception_tf.config import Config
from inception_tf.host.hardware import Precision
from inception_tf.training.phases import Phase, phase_at

__all__ = ["ModelPlan"]


@dataclass(frozen=True)
class ModelPlan:
    """A configuration with every number that its network, losses and optimizer need resolved."""

    config: Config
    network: Network  # resolved from its name once
    classes: int
    size: int  # pixels, height and width
    steps: int  # per epoch
    precision: Precision
    class_weights: tuple[float, ...] | None = None  # of each class in the loss; None: all 1

    def model_arguments(self) -> dict:
        """The arguments of `create_model` for this run.

        Returns:
            All but the name, `aux_logits`, `dtype` and `weights`.
        """
        model = self.config.model
        return {
            "input_shape": (self.size, self.size, 3),
            "classes": self.classes,
            "dropout": model.dropout,
            "batch_norm_momentum": model.batch_norm_momentum,
            "weight_decay": model.weight_decay,
            "initializer_gain": model.initializer_gain,
            "classifier_activation": self.config.data.classifier_activation(),
            **model.structure(),
        }

    def phase_before(self, step: int) -> Phase:
        """The phase that a step belongs to.

        Args:
            step: counted from 1; 0: before the first step.

        Returns:
            The phase; the first one for 0.
        """
        return phase_at(self.config, max(step - 1, 0) // self.steps)

    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        """The auxiliary classifiers that are trained and then dropped.

        Returns:
            Empty where the configuration or the network has none.
        """
        wanted = self.config.model.aux_logits is not False
        return self.network.auxiliaries if wanted else ()
