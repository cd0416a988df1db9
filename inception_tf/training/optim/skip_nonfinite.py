# SPDX-License-Identifier: Apache-2.0
"""Non-finite losses and gradients: such a step is skipped, and many of them in a row end the run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from inception_tf.errors import UserError
from inception_tf.nn.keras_internals import require
from inception_tf.training.jax_state import attached
from inception_tf.training.optim.optimizers import LossScaleOptimizer

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["FiniteSteps", "NotFiniteError", "StopOnNonFinite", "refuse_not_finite"]

require("_stateful_handle_finite_grads", "_stateful_handle_non_finite_grads")
require("_trainable_variables")

INITIAL_SCALE = 2.0**15  # Keras' default for float16
# Steps between two looks at the count of bad ones: each look waits for the device.
CHECK_EVERY = 20

Tensor = Any  # of the backend


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
    above 1 explains; `skipped`, int32, counts all of them.  From `max_bad_steps` bad ones on, all further steps
    are skipped, so that a count that is read later belongs to the state of that step.

    On TensorFlow a bad step branches around the update.  On JAX, where a branch cannot change variables, and on
    torch, where it would wait for the GPU, the update is computed in any case, and its results are replaced by
    the values of before.

    Args:
        optimizer: the optimizer to wrap.
        scaled: use dynamic loss scaling, as float16 needs it (Micikevicius et al. 2018, section 3.2); a
            skipped step then halves the scale, but not below 1.
        statistics: called when the optimizer is built, gives the (C,) variables to protect; None: none.
        max_bad_steps: bad steps in a row after which no step changes anything; None: any number.
        name: as in Keras.
    """

    def __init__(
        self,
        optimizer: keras.Optimizer,
        *,
        scaled: bool = False,
        statistics: Callable[[], list] | None = None,
        max_bad_steps: int | None = None,
        name: str | None = None,
    ):
        super().__init__(optimizer, initial_scale=INITIAL_SCALE if scaled else 1.0, name=name)
        self.scaled = scaled
        self.statistics = statistics
        self.max_bad_steps = max_bad_steps
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

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Scales the loss where scaling is on.

        Args:
            loss: a scalar.

        Returns:
            The loss, scaled or not.
        """
        return super().scale_loss(loss) if self.scaled else loss

    def check_finite(self, grads: Sequence[Tensor | None]) -> Tensor:
        """Whether this step may change anything: all gradients are finite, and `max_bad_steps` is not reached.

        Args:
            grads: tensors, or None for a variable without gradient.

        Returns:
            () bool, the same on every replica.
        """
        # One pass over each: a sum is finite only where all its parts are.
        finite = super().check_finite([keras.ops.sum(g) for g in grads if g is not None])
        if self.max_bad_steps is None:
            return finite
        return keras.ops.logical_and(finite, self.bad_steps < self.max_bad_steps)

    def apply(
        self, grads: Sequence[Tensor | None], trainable_variables: Sequence | None = None
    ) -> None:
        """Takes a step, or skips it.

        On JAX to be called in a `keras.StatelessScope` with the values of the trainable variables, of
        `statistics()` and of `variables`, as `jax_model.JaxModel` does.

        Args:
            grads: of the loss as `scale_loss` scales it, one per trainable variable, None for one without.
            trainable_variables: the variables that they belong to; None: those it was built for.
        """
        if keras.backend.backend() == "tensorflow":
            super().apply(grads, trainable_variables)
            return
        if not self.built:
            self.build(list(trainable_variables or ()))
        finite = self.check_finite(grads)
        if self.scaled:
            grads = [None if g is None else g / self.dynamic_scale for g in grads]
        changed = [*(trainable_variables or self._trainable_variables)]
        changed += self.inner_optimizer.variables
        before = [keras.ops.copy(v.value) for v in changed]
        self.inner_optimizer.apply(grads, trainable_variables)
        for variable, value in zip(changed, before, strict=True):
            variable.assign(keras.ops.where(finite, variable.value, value))
        self._count(finite)
        if self.guarded:
            self.kept.assign(keras.ops.where(finite, self._flat(), self.kept.value))
            self._restore_statistics()

    def stateless_apply(
        self, optimizer_variables: list, grads: list, trainable_variables: list
    ) -> tuple[list, list]:
        """Takes a step on values in place of variables, as Keras' method does.

        Args:
            optimizer_variables: the values of `variables`.
            grads: as for `apply`.
            trainable_variables: the values of the trainable variables.

        Returns:
            The trainable variables' new values, and the optimizer's.

        Raises:
            UserError: there are statistics to protect, which are neither.
        """
        if self.guarded:
            raise UserError(
                "FiniteSteps with `statistics` takes a step of training.jax_model.JaxModel, not of a keras.Model:"
                " compile the network with inception_tf.training.compile"
            )
        mapping = [*zip(self._trainable_variables, trainable_variables, strict=True)]
        mapping += zip(self.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(mapping) as scope:
            self.apply(grads)
        return (
            [scope.get_current_value(v) for v in self._trainable_variables],
            [scope.get_current_value(v) for v in self.variables],
        )

    def _count(self, finite: Tensor) -> None:
        """What the branches below do to the counters and the scale, without a branch."""
        bad = 1 - keras.ops.cast(finite, "int32")
        unexplained = bad * keras.ops.cast(self.dynamic_scale <= 1.0, "int32")
        self.bad_steps.assign(bad * (self.bad_steps + unexplained))
        self.skipped.assign_add(bad)
        if not self.scaled:
            return
        count, scale = self.step_counter.value, self.dynamic_scale.value
        grows = count == self.dynamic_growth_steps - 1
        larger = keras.ops.where(grows, scale * 2.0, scale)
        smaller = keras.ops.maximum(scale * 0.5, 1.0)
        following = keras.ops.where(keras.ops.logical_or(grows, bad == 1), 0, count + 1)
        self.dynamic_scale.assign(keras.ops.where(finite, larger, smaller))
        self.step_counter.assign(following)

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
            self._restore_statistics()

    def _restore_statistics(self):
        ends = list(itertools.accumulate(v.shape[0] for v in self.guarded))
        parts = keras.ops.split(self.kept.value, ends[:-1])
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

    The weights are then those of the last good step.  The count is read every `CHECK_EVERY` steps and at the end
    of an epoch, because reading it waits for the device; the steps in between are skipped as well, and the error
    names the step at which it was reached.

    Args:
        max_bad_steps: consecutive skipped steps that are too many, at least 1.
        done: steps before the first `fit`.
    """

    takes_tensors = True  # of `callbacks.StepCallbacks`

    def __init__(self, max_bad_steps: int, done: int = 0):
        super().__init__()
        self.max_bad_steps = max_bad_steps
        self.step = self.epoch_start = done

    def on_train_begin(self, logs=None):
        # Before the first step is traced.
        self.model.optimizer.max_bad_steps = self.max_bad_steps

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_start = self.step

    def on_train_batch_end(self, batch, logs=None):
        before, self.step = self.step, self.epoch_start + batch + 1
        if self.step // CHECK_EVERY > before // CHECK_EVERY or batch + 1 == self.params.get(
            "steps"
        ):
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        self._check()

    def _check(self):
        attached(self.model)
        optimizer = self.model.optimizer
        bad = int(keras.ops.convert_to_numpy(optimizer.bad_steps))
        if bad < self.max_bad_steps:
            return
        step = self.step - (bad - self.max_bad_steps)
        learning_rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        precision = " or training.precision=float32" if optimizer.scaled else ""
        raise NotFiniteError(
            f"the loss or its gradients were not finite for {self.max_bad_steps} steps in a row up to step {step}, at"
            f" learning rate {learning_rate:.3g}; they were skipped and earlier checkpoints are intact: try a"
            f" lower optimizer.learning_rate, an optimizer.clip_norm such as 1{precision}, and look for NaN"
            " in your images",
            step,
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

    import tensorflow as tf

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
