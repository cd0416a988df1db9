# SPDX-License-Identifier: Apache-2.0
"""Optimizers by name, learning rate schedules, and where both differ from those of Keras to match slim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from inception_tf.config import OptimizerConfig
from inception_tf.errors import unknown
from inception_tf.nn.keras_internals import require

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "LossScaleOptimizer",
    "SGD",
    "TF1RMSprop",
    "WarmUp",
    "make_optimizer",
    "make_schedule",
]

require("_clip_gradients", "_all_reduce_sum_gradients")
require("_get_variable_index", "_momentums", "_trainable_variables", "_velocities")

RMSPROP_EPSILON = 1.0  # slim train_image_classifier.py, opt_epsilon
ADAM_EPSILON = 1e-7  # Keras' default
registered = keras.saving.register_keras_serializable(package="inception_tf")


class _Update(keras.optimizers.Optimizer):
    """Clips the sum of the gradients of all replicas, and has a factor on the learning rate of each layer.

    Keras clips each replica's gradient before they are added (base_optimizer.py,
    `_backend_apply_gradients`), so that the limit grows with the number of replicas.
    """

    def __init__(
        self, *arguments: Any, rate_factors: Mapping[str, float] | None = None, **options: Any
    ):
        super().__init__(*arguments, **options)
        self.rate_factors = dict(rate_factors or {})  # by the beginning of a layer's name

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, self._rate_of(variable, learning_rate))

    def _rate_of(self, variable, learning_rate):
        """The learning rate of one variable: that of the longest beginning which its layer's name has."""
        if not self.rate_factors:
            return learning_rate
        path = self._trainable_variables[self._get_variable_index(variable)].path
        fitting = [start for start in self.rate_factors if path.startswith(start)]
        return (
            learning_rate * self.rate_factors[max(fitting, key=len)] if fitting else learning_rate
        )

    def get_config(self):
        factors = {"rate_factors": self.rate_factors} if self.rate_factors else {}
        return super().get_config() | factors

    def _clip_gradients(self, grads):
        # TensorFlow's trainer sums the replicas' gradients later, below; the other backends did so before.
        return grads if keras.backend.backend() == "tensorflow" else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        pairs = super()._all_reduce_sum_gradients(grads_and_vars)
        grads, variables = zip(*pairs, strict=True)
        return list(zip(super()._clip_gradients(list(grads)), variables, strict=True))


@registered
class Adam(_Update, keras.optimizers.Adam):
    """Keras' Adam, clipping the sum of all replicas' gradients.

    On a single replica a float32 variable is updated by TensorFlow's fused operation: the same formula in
    one pass over memory, where Keras' dozen operations take a dozen.
    """

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        rate = self._rate_of(variable, learning_rate)

        value = variable.value if isinstance(variable, keras.Variable) else variable
        single = tf.distribute.get_strategy().num_replicas_in_sync == 1
        dense = not isinstance(gradient, tf.IndexedSlices)
        if not (single and dense and value.dtype == tf.float32):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=value.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )


@registered
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), of kernels alone.

    Each step takes `learning_rate * decay` of every kernel off it.  Biases and the scales and shifts of
    normalization, which have one axis, are not decayed.

    Args:
        decay: At least 0.
        **options: As of Keras' Adam.
    """

    def __init__(self, decay: float = 0.0, **options: Any):
        super().__init__(**options)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        """Decays a kernel, then takes Adam's step.

        Args:
            gradient: Of the loss, the variable's shape.
            variable: The variable that the step changes.
            learning_rate: () float32, before the layer's factor.
        """
        if self.decay and len(variable.shape) > 1:
            rate = keras.ops.cast(self._rate_of(variable, learning_rate), variable.dtype)
            self.assign_sub(variable, variable * (self.decay * rate))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"decay": self.decay}


@registered
class Adagrad(_Update, keras.optimizers.Adagrad):
    """Keras' Adagrad, clipping the sum of all replicas' gradients."""


@registered
class SGD(_Update, keras.optimizers.SGD):
    """Keras' SGD, clipping the sum of all replicas' gradients."""


@registered
class TF1RMSprop(_Update, keras.optimizers.RMSprop):
    """RMSProp as in TensorFlow 1, and so in slim: the mean squares start at 1, in Keras at 0.

    With slim's epsilon of 1.0 the first steps are shorter by a factor near sqrt(2).  Both add epsilon
    under the root.  tensorflow/python/training/rmsprop.py.
    """

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        # An initializer, because an assignment would be traced into the training step.
        initializer = "ones" if name == "velocity" else initializer
        return super().add_optimizer_variables(trainable_variables, name, initializer)


@registered
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' loss scaling, skipping a step where the gradient of any replica is not finite.

    Keras checks the first replica only, taking its gradients for the sum of all (loss_scale_optimizer.py,
    `_tf_apply`); they are its own, and an infinity on another replica would reach all weights.
    """

    def check_finite(self, grads):
        if keras.backend.backend() != "tensorflow":
            return super().check_finite(grads)
        import tensorflow as tf

        broken = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        context = tf.distribute.get_replica_context()
        return tf.equal(context.all_reduce(tf.distribute.ReduceOp.SUM, broken), 0)


@registered
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that rises linearly from zero to `highest` over `steps`, then follows `after` from its step 0.

    Args:
        highest: the learning rate at the end of the warm-up.
        steps: the length of the warm-up, at least 1.
        after: the schedule that follows.
    """

    def __init__(
        self,
        highest: float,
        steps: int,
        after: keras.optimizers.schedules.LearningRateSchedule,
    ):
        self.highest, self.steps, self.after = highest, steps, after

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rising = self.highest * step / self.steps
        return keras.ops.where(
            step < self.steps, rising, self.after(keras.ops.maximum(step - self.steps, 0))
        )

    def get_config(self):
        after = keras.optimizers.schedules.serialize(self.after)
        return {"highest": self.highest, "steps": self.steps, "after": after}

    @classmethod
    def from_config(cls, config):
        after = keras.optimizers.schedules.deserialize(config["after"])
        return cls(**(config | {"after": after}))


def make_schedule(
    config: OptimizerConfig, *, steps_per_epoch: int, epochs: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Builds the learning rate schedule of a recipe, warm-up included.

    cosine decays to `final_rate` of the learning rate by the last step.  exponential multiplies it by
    `rate_decay` every `decay_epochs`, a little at each step; step does the same at once at their end
    (slim: `staircase`).  Epochs count from the end of the warm-up.

    Args:
        config: the optimizer section.
        steps_per_epoch: steps in one epoch.
        epochs: the length of the training.

    Returns:
        A Keras schedule: step → learning rate.
    """
    total = steps_per_epoch * epochs
    warmup = min(round(config.warmup_epochs * steps_per_epoch), max(total - 1, 0))
    schedules, highest = keras.optimizers.schedules, config.learning_rate
    if config.schedule == "cosine":
        after = schedules.CosineDecay(highest, total - warmup, alpha=config.final_rate)
    elif config.schedule == "constant":
        after = schedules.ExponentialDecay(highest, decay_steps=1, decay_rate=1.0)
    else:
        after = schedules.ExponentialDecay(
            highest,
            decay_steps=max(1, round(config.decay_epochs * steps_per_epoch)),
            decay_rate=config.rate_decay,
            staircase=config.schedule == "step",
        )
    return WarmUp(highest, warmup, after) if warmup else after


def _epsilon(config: OptimizerConfig, default: float) -> float:
    return default if config.epsilon is None else config.epsilon


OPTIMIZERS = {
    "adagrad": lambda config, **common: Adagrad(epsilon=_epsilon(config, ADAM_EPSILON), **common),
    "adam": lambda config, **common: Adam(epsilon=_epsilon(config, ADAM_EPSILON), **common),
    "adamw": lambda config, **common: AdamW(
        config.weight_decay, epsilon=_epsilon(config, ADAM_EPSILON), **common
    ),
    "rmsprop": lambda config, **common: TF1RMSprop(
        rho=config.decay,
        momentum=config.momentum,
        epsilon=_epsilon(config, RMSPROP_EPSILON),
        **common,
    ),
    "sgd": lambda config, **common: SGD(
        momentum=config.momentum, nesterov=config.nesterov, **common
    ),
}


def make_optimizer(
    config: OptimizerConfig,
    *,
    steps_per_epoch: int,
    epochs: int,
    rate_factors: Mapping[str, float] | None = None,
) -> keras.Optimizer:
    """Builds the optimizer of a recipe, with its schedule and its clipping.

    Moving averages (`config.ema`) are added around it by `ema.MovingAverage`, and on TensorFlow
    `skip_nonfinite.FiniteSteps` around both, which also scales the loss in mixed_float16.

    Args:
        config: the optimizer section.
        steps_per_epoch: steps in one epoch.
        epochs: the length of the training.
        rate_factors: factors on the learning rate, by the beginning of a layer's name; None: all 1.

    Returns:
        A Keras optimizer.

    Raises:
        UserError: an unknown optimizer; the closest name is suggested.
    """
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    schedule = make_schedule(config, steps_per_epoch=steps_per_epoch, epochs=epochs)
    accumulated = config.accumulation_steps
    return OPTIMIZERS[config.name](
        config,
        learning_rate=schedule,
        global_clipnorm=config.clip_norm,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
        rate_factors=rate_factors,
    )
