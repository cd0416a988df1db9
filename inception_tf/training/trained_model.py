# SPDX-License-Identifier: Apache-2.0
"""The model that `fit` trains: Keras' functional model, whose saved file brings back the optimizer with its statistics."""

from __future__ import annotations

from collections.abc import Callable

import keras

from inception_tf.nn.keras_internals import saved_as
from inception_tf.training.optim.ema import moving_statistics
from inception_tf.training.optim.skip_nonfinite import FiniteSteps

__all__ = ["TrainedModel", "model_on"]


def model_on(backend: str) -> Callable[[type], type]:
    """A decorator: the model that is trained on a backend of Keras.

    A compiled model is saved with its class; without this package it loads as Keras' functional model.

    Args:
        backend: the backend; on others the class is not registered.

    Returns:
        The decorator, which returns the class that it is given.
    """
    present = keras.backend.backend() == backend
    return saved_as("keras.src.models.Functional") if present else lambda cls: cls


@model_on("torch")
class TrainedModel(keras.Model):
    """A functional model; on torch this is all, `DistributedModel` and `JaxModel` add to it."""

    def compile_from_config(self, config):
        options = keras.saving.deserialize_keras_object(config)
        # A file has no function: the statistics that are protected are again this model's.
        optimizer = options.get("optimizer")
        if isinstance(optimizer, FiniteSteps):
            optimizer.statistics = lambda: moving_statistics(self)
        self.compile(**options)
        self.optimizer.build(self.trainable_variables)
