# SPDX-License-Identifier: Apache-2.0
"""The model that `fit` trains on JAX; imported by `compile.py` where JAX is the backend."""

from __future__ import annotations

from typing import Any

import jax
import keras

from inception_tf.nn.keras_internals import require
from inception_tf.training.trained_model import TrainedModel, model_on

__all__ = ["JaxModel"]

require("_update_metrics_variables")


@model_on("jax")
class JaxModel(TrainedModel):
    """A functional model whose optimizer sees, and may restore, what the forward pass has changed.

    Keras' step on JAX gives an optimizer the trainable variables and its own.  Averages of moving statistics, their
    restoration after a step that is not finite, and a momentum that depends on the step need all three.
    """

    # Of the step that is being traced; None outside.
    step_value: Any = None

    def current_step(self) -> Any:
        """The number of steps that the optimizer has taken, () int32, also inside of a forward pass."""
        return self.optimizer.iterations if self.step_value is None else self.step_value

    def compute_loss_and_updates(self, *state, optimizer_variables=None, **options):
        if optimizer_variables is not None:
            mapping = zip(self.optimizer.variables, optimizer_variables, strict=True)
            with keras.StatelessScope(list(mapping)):
                self.step_value = keras.ops.convert_to_tensor(self.optimizer.iterations)
        try:
            return super().compute_loss_and_updates(
                *state, optimizer_variables=optimizer_variables, **options
            )
        finally:
            self.step_value = None

    def train_step(self, state, data):
        trainable, others, optimizer, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        gradients = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (loss, y_pred, others, metrics)), grads = gradients(
            *(trainable, others, metrics, x, y, sample_weight),
            training=True,
            optimizer_variables=optimizer,
        )
        owned = (
            (self.trainable_variables, trainable),
            (self.non_trainable_variables, others),
            (self.optimizer.variables, optimizer),
        )
        mapping = [pair for part in owned for pair in zip(*part, strict=True)]
        with keras.StatelessScope(mapping) as scope:
            self.optimizer.apply(grads, self.trainable_variables)
        stepped = [[scope.get_current_value(v) for v in variables] for variables, _ in owned]
        logs, metrics = self._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
        return logs, (*stepped, metrics)
