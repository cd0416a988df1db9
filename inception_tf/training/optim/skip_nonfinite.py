# SPDX-License-Identifier: Apache-2.0
"""Non-finite losses and gradients: such a step is skipped, and many of them in a row end the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.nn.keras_internals import require
from inception_tf.training.optim.optimizers import LossScaleOptimizer

__all__ = ["FiniteSteps", "NotFiniteError", "StopOnNonFinite", "refuse_not_finite"]

require("_stateful_handle_finite_grads", "_stateful_handle_non_finite_grads")

INITIAL_SCALE = 2.0**15  # Keras' default for float16


class NotFiniteError(UserError):
    """A run that diverged.

    Args:
        sentence: the error's text.
        step: the step at which it ended, which the attribute `step` keeps.
    """

    def __init__(self, sentence: str, step: int):
        super().__init__(sentence)
        self.step = step


class _Untracked:
    """Variables of the model, which Keras would otherwise count and save as the optimizer's own."""

    def __init__(self, variables: Iterable[keras.Variable]):
        self.variables = tuple(variables)


@keras.saving.register_keras_serializable(package="inception_tf")
class FiniteSteps(LossScaleOptimizer):
    """Wraps an optimizer to skip the steps whose gradients, on any replica, are not finite.

    A skipped step leaves weights, slots, averages and step count as they were, and `statistics()` too,
    variables that the forward pass changes, such as `ema.moving_statistics(model)`: a single NaN would stay
    in them forever.  A copy of them is kept for that, among the `variables` and so in every checkpoint.

    `bad_steps`, int32, counts the skipped steps since the last good one, except those that a loss scale
    above 1 explains; `skipped`, int32, counts all of them.

    Args:
        optimizer: the optimizer to wrap.
        scaled: use dynamic loss scaling, as float16 needs it (Micikevicius et al. 2018, section 3.2); a
            skipped step then halves the scale, but not below 1.
        statistics: called when the optimizer is built, gives the (C,) variables to protect; None: none.
        name: as in Keras.
    """

    def __init__(
        self,
        optimizer: keras.Optimizer,
        *,
        scaled: bool = False,
        statistics: Callable[[], list] | None = None,
        name: str | None = None,
    ):
        super().__init__(optimizer, initial_scale=INITIAL_SCALE if scaled else 1.0, name=name)
        self.scaled = scaled
        self.statistics = statistics
        self._guarded = _Untracked(())

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the counters and the copy of the statistics.

        Args:
            variables: the trainable variables.
        """
        if self.built:
            return
        super().build(variables)
        self.bad_steps, self.skipped = (
            self.add_variable((), "zeros", "int32", aggregation="none", name=name)
            for name in ("bad_steps", "skipped")
        )
        self._guarded = _Untracked(self.statistics() if self.statistics else ())
        if self.guarded:
            # One flat variable: an assignment for each of a hundred layers would cost more than the copy.
            self.kept = self.add_variable(
                (sum(v.shape[0] for v in self.guarded),),
                lambda *_, **__: self._flat(),
                aggregation="none",
                name="kept_statistics",
            )

    @property
    def guarded(self) -> tuple[keras.Variable, ...]:
        """The variables that `statistics` gave when the optimizer was built."""
        return self._guarded.variables

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the loss where scaling is on.

        Args:
            loss: a scalar.

        Returns:
            The loss, scaled or not.
        """
        return super().scale_loss(loss) if self.scaled else loss

    def check_finite(self, grads: Sequence[tf.Tensor | None]) -> tf.Tensor:
        # One pass over each: a sum is finite only where all its parts are.
        """Whether all gradients are finite, on every replica.

        Args:
            grads: tensors, or None for a variable without gradient.

        Returns:
            () bool.
        """
        return super().check_finite([keras.ops.sum(g) for g in grads if g is not None])

    def _stateful_handle_finite_grads(self, grads, trainable_variables):
        if self.scaled:
            super()._stateful_handle_finite_grads(grads, trainable_variables)
        else:
            self.inner_optimizer.apply(grads, trainable_variables)
        self.bad_steps.assign(0)
        if self.guarded:
            self.kept.assign(self._flat())

    def _stateful_handle_non_finite_grads(self):
        unexplained = keras.ops.cast(self.dynamic_scale <= 1.0, "int32")
        self.bad_steps.assign_add(unexplained)
        self.skipped.assign_add(1)
        super()._stateful_handle_non_finite_grads()
        self.dynamic_scale.assign(keras.ops.maximum(self.dynamic_scale, 1.0))
        if self.guarded:
            parts = tf.split(self.kept.value, [v.shape[0] for v in self.guarded])
            for variable, value in zip(self.guarded, parts, strict=True):
                variable.assign(value)

    def _flat(self):
        return keras.ops.concatenate([v.value for v in self.guarded])

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"optimizer": inner, "scaled": self.scaled, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> FiniteSteps:
        """Restores the wrapper and its inner optimizer, as Keras does.

        Args:
            config: from `get_config`.
            custom_objects: as in Keras.

        Returns:
            The wrapper, without `statistics`.
        """
        inner = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects)
        return cls(**(config | {"optimizer": inner}))


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends `fit` with `NotFiniteError` once `FiniteSteps` has skipped `max_bad_steps` steps in a row.

    The weights are then those of the last good step.  With `steps_per_execution` it checks after each
    execution only.

    Args:
        max_bad_steps: consecutive skipped steps that are too many, at least 1.
        done: steps before the first `fit`.
    """

    def __init__(self, max_bad_steps: int, done: int = 0):
        super().__init__()
        self.max_bad_steps = max_bad_steps
        self.step = self.epoch_start = done

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_start = self.step

    def on_train_batch_end(self, batch, logs=None):
        self.step = self.epoch_start + batch + 1
        optimizer = self.model.optimizer
        bad = int(keras.ops.convert_to_numpy(optimizer.bad_steps))
        if bad < self.max_bad_steps:
            return
        learning_rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        precision = " or training.precision=float32" if optimizer.scaled else ""
        raise NotFiniteError(
            f"the loss or its gradients were not finite for {bad} steps in a row up to step {self.step}, at"
            f" learning rate {learning_rate:.3g}; they were skipped and earlier checkpoints are intact: try a"
            f" lower optimizer.learning_rate, an optimizer.clip_norm such as 1{precision}, and look for NaN"
            " in your images",
            self.step,
        )


def refuse_not_finite(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Checks a user's own images: NaN or infinity in one ends the pass with an error that names it.

    Not needed for images that this package decodes.

    Args:
        batches: images, or tuples that start with them, (N, H, W, C) floats.

    Returns:
        The same batches; reading a bad one raises `tf.errors.InvalidArgumentError` with the numbers of
        batch and image, from 0.
    """

    def checked(number, batch):
        images = batch[0] if isinstance(batch, tuple) else batch
        axes = list(range(1, images.shape.rank))
        broken = tf.where(~tf.reduce_all(tf.math.is_finite(images), axes))[:, 0]
        sentence = tf.strings.format(
            "images {} of batch {} contain NaN or infinity; repair or remove them", (broken, number)
        )
        check = tf.debugging.Assert(tf.equal(tf.size(broken), 0), [sentence])
        with tf.control_dependencies([check]):
            return tf.nest.map_structure(tf.identity, batch)

    return batches.enumerate().map(checked, num_parallel_calls=tf.data.AUTOTUNE)
