# SPDX-License-Identifier: Apache-2.0
"""Exponential moving averages of a network's weights and statistics, kept by the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.nn.keras_internals import require

__all__ = [
    "AveragedEvaluation",
    "MovingAverage",
    "averaged",
    "moving_statistics",
    "warm_up_statistics",
]

require("_trainable_variables")


@keras.saving.register_keras_serializable(package="inception_tf")
class MovingAverage(keras.optimizers.Optimizer):
    """Wraps an optimizer and keeps average = d * average + (1 - d) * weight after each of its steps.

    d is the smaller of `decay` and (1 + n) / (10 + n) after step n, so that short runs forget their
    initialization: tf.train.ExponentialMovingAverage with `num_updates`, to which slim passes the step (slim
    train_image_classifier.py).  Averages start at the weights' values when the optimizer is built; they are
    among its `variables`, and so in every checkpoint.

    Keras' `use_ema` covers trainable variables only, has no warm-up, and overwrites the weights with the
    averages at the end of each `fit`.

    Args:
        optimizer: the optimizer to wrap.
        decay: in [0, 1).
        others: called when the optimizer is built, gives further variables to average, such as
            `moving_statistics(model)` as in slim; None: none.
        name: as in Keras.
    """

    def __init__(
        self,
        optimizer: keras.Optimizer,
        decay: float = 0.9999,
        others: Callable[[], list] | None = None,
        name: str | None = None,
    ):
        super().__init__(learning_rate=0.0, name=name)  # its own learning rate is never used
        self.inner_optimizer = optimizer
        self.decay = decay
        self.others = others
        self.averages: list[keras.Variable] = []

    def build(self, variables):
        if self.built:
            return
        self.inner_optimizer.build(variables)
        averaged = [*variables, *(self.others() if self.others else ())]
        super().build(averaged)
        self.averages = [
            # A copy: torch would share the memory of the variable, and JAX gives each array away once.
            self.add_variable_from_reference(
                v, "average", lambda *_, v=v, **__: keras.ops.copy(v.value)
            )
            for v in averaged
        ]

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(list(trainable_variables))
        before = keras.ops.copy(self.iterations)
        self.inner_optimizer.apply(grads, trainable_variables)
        # Where gradients are accumulated, most steps update nothing and count for nothing.
        updated = keras.ops.cast(self.iterations > before, "float32")
        rate = updated * (1.0 - warmed(self.decay, self.iterations))
        for variable, average in self.pairs():
            self.assign_sub(average, (average - variable) * rate)

    def pairs(self) -> list[tuple]:
        """Each averaged variable with its average."""
        return list(zip(self._trainable_variables, self.averages, strict=True))

    @property
    def variables(self):
        return super().variables + self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate):
        self.inner_optimizer.learning_rate = rate

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"optimizer": inner, "decay": self.decay, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects)
        return cls(**(config | {"optimizer": inner}))


def warmed(decay: float, step: Any) -> Any:
    """The smaller of `decay` and (1 + step) / (10 + step), () float32: tf.train.ExponentialMovingAverage."""
    step = keras.ops.cast(step, "float32")
    return keras.ops.minimum(decay, (1.0 + step) / (10.0 + step))


def warm_up_statistics(model: keras.Model) -> None:
    """Makes the moving statistics of a compiled model forget their initialization as `MovingAverage` does.

    With slim's momentum of 0.9997 they would still be a tenth zeros and ones after 7,700 steps.

    Args:
        model: compiled, for the step count of its optimizer; changed in place.
    """

    def step():
        # On JAX the forward pass has no variables of the optimizer.
        current = getattr(model, "current_step", None)
        return current() if current else model.optimizer.iterations

    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.warm_up = lambda momentum: warmed(momentum, step())


def moving_statistics(model: keras.Model) -> list:
    """The moving means and variances of all trainable batch normalizations.

    Args:
        model: a model whose layers are searched, without nested models.

    Returns:
        (C,) variables, two per layer.
    """
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    return [v for norm in norms for v in (norm.moving_mean, norm.moving_variance)]


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Inside, the weights of a compiled model are their averages; afterwards they are restored bit for bit.

    Does nothing if the optimizer keeps no averages.  Not for use inside a `tf.function`.

    Args:
        model: a compiled model.
    """
    trained = _swap_in(model)
    try:
        yield
    finally:
        _restore(trained)


class AveragedEvaluation(keras.callbacks.Callback):
    """A callback with which `fit` and `evaluate` use the averaged weights for evaluation."""

    def __init__(self):
        super().__init__()
        self.trained = []

    def on_test_begin(self, logs=None):
        self.trained = _swap_in(self.model)

    def on_test_end(self, logs=None):
        _restore(self.trained)
        self.trained = []


def _swap_in(model: keras.Model) -> list[tuple]:
    """Assigns the averages and returns each variable with its previous value."""
    optimizer = getattr(model, "optimizer", None)
    while optimizer is not None and not isinstance(optimizer, MovingAverage):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    # Copies, unlike Keras' SwapEMAWeights, which adds and subtracts: rounding errors would stay in the weights.
    # torch's arrays would be the variables' memory, which the assignment overwrites.
    trained = [(v, np.array(keras.ops.convert_to_numpy(v))) for v, _ in optimizer.pairs()]
    for variable, average in optimizer.pairs():
        variable.assign(keras.ops.convert_to_numpy(average))
    return trained


def _restore(trained: list[tuple]) -> None:
    for variable, value in trained:
        variable.assign(value)
