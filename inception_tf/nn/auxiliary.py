# SPDX-License-Identifier: Apache-2.0
"""A model with auxiliary classifiers: Keras' own, with an explanation where targets are missing for them."""

from __future__ import annotations

from typing import Any

import keras

from inception_tf.errors import UserError
from inception_tf.nn.keras_internals import saved_as

__all__ = ["ModelWithAuxiliaries"]


@saved_as("keras.src.models.Model")
class ModelWithAuxiliaries(keras.Model):
    """A functional model whose outputs are a dict of the predictions of all its classifiers."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self._check_targets(y, y_pred)
        return super().compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self._check_targets(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _check_targets(self, y: Any, y_pred: Any) -> None:
        if y is None or isinstance(y, dict) or not isinstance(y_pred, dict):
            return
        names = list(y_pred)
        weights = {name: 0.3 if number else 1.0 for number, name in enumerate(names)}
        raise UserError(
            f"the model was built with aux_logits=True and has {len(names)} outputs, {', '.join(names)}, but there"
            " are targets for one; pass them as a dict, dict.fromkeys(model.output, y), and compile with"
            f" loss=dict.fromkeys(model.output, loss), loss_weights={weights}"
        )
