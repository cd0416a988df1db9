# SPDX-License-Identifier: Apache-2.0
"""Optimizers by name, the learning rate as a function of the step, and what Keras' own do otherwise than slim's."""

from __future__ import annotations

import keras

from inception_tf.config import OptimizerConfig
from inception_tf.errors import unknown
from inception_tf.nn.keras_internals import require

__all__ = [
    "SGD",
    "Adam",
    "LossScaleOptimizer",
    "TF1RMSprop",
    "WarmUp",
    "make_optimizer",
    "make_schedule",
]

require("_clip_gradients", "_all_reduce_sum_gradients")
require("_get_variable_index", "_momentums", "_velocities")

RMSPROP_EPSILON = 1.0  # slim train_image_classifier.py, opt_epsilon
ADAM_EPSILON = 1e-7  # Keras' default
registered = keras.saving.register_keras_serializable(package="inception_tf")


class _ClipsTheSum:
    """Clips the gradient that all replicas add up to.

    Keras clips each replica's own before they are added (base_optimizer.py,
    `_backend_apply_gradients`), so that the limit grows with the number of replicas.
    """

    def _clip_gradients(self, grads):
        # TensorFlow's trainer adds up the replicas' gradients later, below; the others have done so before.
        return grads if keras.backend.backend() == "tensorflow" else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        pairs = super()._all_reduce_sum_gradients(grads_and_vars)
        grads, variables = zip(*pairs, strict=True)
        return list(zip(super()._clip_gradients(list(grads)), variables, strict=True))


@registered
class Adam(_ClipsTheSum, keras.optimizers.Adam):
    """Keras' Adam; clips the sum of all replicas' gradients.

    A float32 variable on a single replica takes its step in TensorFlow's one operation for it, the same
    formula in one pass over memory, where Keras' dozen operations pass over it a dozen times.
    """

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        value = variable.value if isinstance(variable, keras.Variable) else variable
        one = tf.distribute.get_strategy().num_replicas_in_sync == 1
        dense = not isinstance(gradient, tf.IndexedSlices)
        if not (one and dense and value.dtype == tf.float32):
            super().update_step(gradient, variable, learning_rate)
            return
        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=value.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )


@registered
class SGD(_ClipsTheSum, keras.optimizers.SGD):
    """Keras' SGD; clips the sum of all replicas' gradients."""


@registered
class TF1RMSprop(_ClipsTheSum, keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 and so slim has it: the mean squares start at 1, in Keras at 0.

    With slim's epsilon of 1.0 the first steps are shorter by a factor near sqrt(2).  Both add epsilon
    under the root.  tensorflow/python/training/rmsprop.py.
    """

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        # An initializer, for an assignment would be traced into the training step.
        initializer = "ones" if name == "velocity" else initializer
        return super().add_optimizer_variables(trainable_variables, name, initializer)


@registered
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' loss scaling; a step is left out where any replica's gradient is not finite.

    Keras asks the first replica alone, whose gradients it takes for everybody's sum
    (loss_scale_optimizer.py, `_tf_apply`); they are its own, and infinity on another replica
    reaches all weights.
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
    """Rate by step: in a straight line from zero to `highest` over `steps`, then `after`, whose step 0 is there."""

    def __init__(self, highest: float, steps: int, after):
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


def make_schedule(config: OptimizerConfig, *, steps_per_epoch: int, epochs: int):
    """Rate by step: a rise from zero over the warm-up, then by `config.schedule` from `learning_rate` on.

    cosine falls to `final_rate` of it by the last step.  exponential multiplies it by `rate_decay`
    over every `decay_epochs`, a little at each step; step does the same at once at their end
    (slim: `staircase`).  Epochs count from the end of the warm-up.
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
    "adam": lambda config, **common: Adam(epsilon=_epsilon(config, ADAM_EPSILON), **common),
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
    config: OptimizerConfig, *, steps_per_epoch: int, epochs: int
) -> keras.Optimizer:
    """The optimizer a recipe names, clipping included; `UserError` with the nearest name for any other.

    Averages of the weights (`config.ema`) are `ema.MovingAverage` around it; around both, on TensorFlow,
    is `skip_nonfinite.FiniteSteps`, which scales the loss in mixed_float16.
    """
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    schedule = make_schedule(config, steps_per_epoch=steps_per_epoch, epochs=epochs)
    return OPTIMIZERS[config.name](config, learning_rate=schedule, global_clipnorm=config.clip_norm)
