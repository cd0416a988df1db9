# SPDX-License-Identifier: Apache-2.0
"""Moving averages of a network's weights and statistics: kept by the optimizer, put in their place for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

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
    """`optimizer`, and after each of its steps average = kept * average + (1 - kept) * weight.

    kept is the smaller of `decay` and (1 + n) / (10 + n) after step n, so that short runs forget where
    they began: tf.train.ExponentialMovingAverage with `num_updates`, which slim gives the step
    (slim train_image_classifier.py).  Averages start at the values the weights have when it is built;
    they are among its `variables`, and so in every checkpoint.

    others: called when it is built, gives further variables to average, `moving_statistics(model)` as in
    slim; Keras' `use_ema` leaves these out, has no warm-up, and at the end of each `fit` puts the
    averages in the weights' place.
    """

    def __init__(
        self,
        optimizer: keras.Optimizer,
        decay: float = 0.9999,
        others: Callable[[], list] | None = None,
        name: str | None = None,
    ):
        super().__init__(learning_rate=0.0, name=name)  # its own rate is never read
        self.inner_optimizer = optimizer
        self.decay = decay
        self.others = others
        self.averages = []

    def build(self, variables):
        if self.built:
            return
        self.inner_optimizer.build(variables)
        averaged = [*variables, *(self.others() if self.others else ())]
        super().build(averaged)
        self.averages = [
            self.add_variable_from_reference(v, "average", lambda *_, v=v, **__: v.value)
            for v in averaged
        ]

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(list(trainable_variables))
        self.inner_optimizer.apply(grads, trainable_variables)
        given_up = 1.0 - warmed(self.decay, self.iterations)
        for variable, average in self.pairs():
            self.assign_sub(average, (average - variable) * given_up)

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


def warmed(decay: float, step):
    """The smaller of `decay` and (1 + step) / (10 + step), () float32: tf.train.ExponentialMovingAverage."""
    step = keras.ops.cast(step, "float32")
    return keras.ops.minimum(decay, (1.0 + step) / (10.0 + step))


def warm_up_statistics(model: keras.Model) -> None:
    """Lets the moving statistics of a compiled model forget their beginning as `MovingAverage` does.

    With slim's 0.9997 they would still be a tenth zeros and ones after 7,700 steps.
    """
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.warm_up = lambda momentum: warmed(momentum, model.optimizer.iterations)


def moving_statistics(model: keras.Model) -> list:
    """The moving means and variances of all batch normalizations that still learn them."""
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    return [v for norm in norms for v in (norm.moving_mean, norm.moving_variance)]


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Inside, the weights of a compiled model are their averages; after it they are, bit for bit, what they were.

    Does nothing where the optimizer keeps no averages.  Outside of `tf.function`.
    """
    trained = _swap_in(model)
    try:
        yield
    finally:
        _restore(trained)


class AveragedEvaluation(keras.callbacks.Callback):
    """Lets `fit` validate with the averages in the weights' place; `evaluate` too, given to it."""

    def __init__(self):
        super().__init__()
        self.trained = []

    def on_test_begin(self, logs=None):
        self.trained = _swap_in(self.model)

    def on_test_end(self, logs=None):
        _restore(self.trained)
        self.trained = []


def _swap_in(model: keras.Model) -> list[tuple]:
    """Puts the averages in place and gives each variable with the value it had."""
    optimizer = getattr(model, "optimizer", None)
    while optimizer is not None and not isinstance(optimizer, MovingAverage):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    # Copies, where Keras' SwapEMAWeights adds and subtracts: its rounding would stay in the weights.
    trained = [(v, keras.ops.convert_to_numpy(v)) for v, _ in optimizer.pairs()]
    for variable, average in optimizer.pairs():
        variable.assign(keras.ops.convert_to_numpy(average))
    return trained


def _restore(trained: list[tuple]) -> None:
    for variable, value in trained:
        variable.assign(value)
