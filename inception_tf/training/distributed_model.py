# SPDX-License-Identifier: Apache-2.0
"""The model that `fit` trains in several processes of TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.nn.keras_internals import require
from inception_tf.training.trained_model import TrainedModel, model_on

__all__ = ["DistributedModel"]

require("_maybe_symbolic_build")


@model_on("tensorflow")
class DistributedModel(TrainedModel):
    """A functional model that `fit` and `evaluate` can also train in several processes.

    Works around two bugs of Keras 3.15 (keras issue 20585): it concatenates a batch that lies on several
    devices to find out shapes that a functional model knows already, and it averages scalar logs over an
    axis that scalars do not have.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Metrics are built in the first step, as Keras does without a strategy."""

    def train_step(self, data):
        return self._with_axis(super().train_step(data))

    def test_step(self, data):
        return self._with_axis(super().test_step(data))

    def _with_axis(self, logs):
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return logs
        return {name: tf.reshape(value, (1,)) for name, value in logs.items()}
