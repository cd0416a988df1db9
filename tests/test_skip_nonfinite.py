# SPDX-License-Identifier: Apache-2.0
"""Steps that are not finite: left out without a trace, counted, and the end of the run when they go on."""

from __future__ import annotations

import functools
from functools import partial

import forked
import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training.optim.ema import MovingAverage, moving_statistics
from inception_tf.training.optim.optimizers import SGD
from inception_tf.training.optim.skip_nonfinite import (
    FiniteSteps,
    StopOnNonFinite,
    refuse_not_finite,
)

NAN, INFINITE = float("nan"), float("inf")


def network(dtype="float32", scaled=False, momentum=0.9, number=0):
    """A compiled network with a normalization, averages, and steps that are left out.

    It is traced once: a second call of the same arguments gives it back as it was at first.
    """
    model, values = compiled(dtype, scaled, momentum, number)
    for variable, value in zip(everything(model), values, strict=True):
        variable.assign(value)
    return model


def everything(model):
    return (*model.variables, *model.optimizer.variables)


@functools.cache
def compiled(dtype, scaled, momentum, number):
    """A network and the values of its variables, the same for each `number`."""
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(4, 1, dtype=dtype)(image)
    x = BatchNormalization(momentum=0.5, name="norm", dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="dense")(x))
    statistics = partial(moving_statistics, model)
    averages = MovingAverage(SGD(0.1, momentum=momentum), 0.9, statistics)
    optimizer = FiniteSteps(averages, scaled=scaled, statistics=statistics)
    model.compile(optimizer, "mse", jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model, [np.array(variable.value) for variable in everything(model)]


def batch(number, spoiled=None):
    x = 1 + ramps.uniform(f"x {number}", (4, 2, 2, 3))
    if spoiled is not None:
        x[1, 0, 1, 2] = spoiled
    return x, ramps.uniform(f"y {number}", (4, 2))


def state(model):
    """All that a good step changes."""
    counters = {"bad_steps", "skipped", "dynamic_scale", "step_counter"}
    return [np.array(v.value) for v in everything(model) if v.name not in counters]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_step_on_an_image_that_is_not_finite_leaves_no_trace(dtype):
    model = network(dtype, scaled=dtype == "mixed_float16")
    for number in range(3):
        model.train_on_batch(*batch(number))
    for spoiled in (NAN, INFINITE):
        before, skipped = state(model), int(model.optimizer.skipped.value)
        model.train_on_batch(*batch(3, spoiled))
        assert_same(state(model), before)
        assert int(model.optimizer.skipped.value) == skipped + 1
        model.train_on_batch(*batch(4))
        after = state(model)
        assert all(np.all(np.isfinite(value)) for value in after)
        assert any(not np.array_equal(now, then) for now, then in zip(after, before, strict=True))


def test_a_run_with_a_step_left_out_is_the_run_without_that_batch():
    spoiled, clean = network(), network(number=1)
    for number in range(4):
        spoiled.train_on_batch(*batch(number, NAN if number == 2 else None))
        if number != 2:
            clean.train_on_batch(*batch(number))
    assert_same(state(spoiled), state(clean))


def test_good_steps_are_those_of_the_optimizer_inside():
    guarded, bare = network(), network(number=2)
    bare.compile(bare.optimizer.inner_optimizer, "mse", jit_compile=False)
    for number in range(4):
        guarded.train_on_batch(*batch(number))
        bare.train_on_batch(*batch(number))
    for ours, alone in zip(guarded.variables, bare.variables, strict=True):
        np.testing.assert_array_equal(ours, alone)


def test_without_scaling_every_step_left_out_counts_until_a_good_one():
    variable = keras.Variable([1.0])
    optimizer = FiniteSteps(SGD(1.0))
    counts = []
    for gradient in (NAN, INFINITE, 0.5, -INFINITE):
        optimizer.apply([tf.constant([gradient])], [variable])
        counts.append((int(optimizer.bad_steps.value), int(optimizer.skipped.value)))
    assert counts == [(1, 1), (2, 2), (0, 2), (1, 3)]
    assert float(variable.value[0]) == 0.5
    assert int(optimizer.iterations) == 1


def test_steps_that_the_loss_scale_explains_do_not_count():
    variable = keras.Variable([1.0])
    optimizer = FiniteSteps(SGD(1.0), scaled=True)
    optimizer.build([variable])
    assert float(optimizer.scale_loss(tf.constant(2.0))) == 2.0**16
    for _ in range(15):
        optimizer.apply([tf.constant([INFINITE])], [variable])
    assert (float(optimizer.dynamic_scale.value), int(optimizer.bad_steps.value)) == (1, 0)
    for _ in range(2):
        optimizer.apply([tf.constant([INFINITE])], [variable])
    assert (float(optimizer.dynamic_scale.value), int(optimizer.bad_steps.value)) == (1, 2)
    assert int(optimizer.skipped.value) == 17
    optimizer.apply([tf.constant([0.25])], [variable])
    assert (float(variable.value[0]), int(optimizer.bad_steps.value)) == (0.75, 0)


def test_a_saved_optimizer_brings_the_inner_one_back():
    optimizer = FiniteSteps(SGD(0.1, momentum=0.8), scaled=True)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, FiniteSteps)
    assert again.scaled
    assert again.inner_optimizer.momentum == 0.8


def fitted(model, batches, **arguments):
    data = tf.data.Dataset.from_generator(
        lambda: iter(batches),
        output_signature=(tf.TensorSpec((4, 2, 2, 3)), tf.TensorSpec((4, 2))),
    )
    data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    model.fit(data, shuffle=False, verbose=0, **arguments)


def test_the_run_ends_after_so_many_in_a_row_with_step_rate_and_what_to_try():
    model = network()
    bad = [batch(number, NAN if number in (1, 3, 4, 5, 6) else None) for number in range(8)]
    with pytest.raises(UserError) as error:
        fitted(model, bad, callbacks=[StopOnNonFinite(3, done=100)])
    assert str(error.value) == (
        "the loss or its gradients were not finite for 3 steps in a row up to step 106, at learning rate"
        " 0.1; they were skipped and earlier checkpoints are intact: try a lower"
        " optimizer.learning_rate, an optimizer.clip_norm such as 1, and look for NaN in your images"
    )
    assert all(np.all(np.isfinite(value)) for value in state(model))


def test_steps_are_counted_over_epochs_and_fewer_in_a_row_are_passed_over():
    model = network()
    stop = StopOnNonFinite(3, done=10)
    bad = [batch(number, NAN if number in (1, 2) else None) for number in range(4)]
    fitted(model, bad, epochs=3, callbacks=[stop])
    assert stop.step == 22
    assert int(model.optimizer.skipped.value) == 6


def test_a_rate_far_too_high_ends_the_run_with_finite_weights():
    model = network(momentum=0.0)
    model.optimizer.inner_optimizer.inner_optimizer.learning_rate = 1e30
    with pytest.raises(UserError, match="at learning rate 1e.30; they were skipped"):
        fitted(model, [batch(number) for number in range(12)], callbacks=[StopOnNonFinite(2)])
    assert all(np.all(np.isfinite(value)) for value in state(model))


def test_float16_is_told_to_try_float32():
    model = network("mixed_float16", scaled=True)
    model.optimizer.dynamic_scale.assign(1.0)
    with pytest.raises(UserError, match="or training.precision=float32, and look for NaN"):
        fitted(model, [batch(0, NAN)], callbacks=[StopOnNonFinite(1)])


def test_an_image_of_ones_own_that_is_not_finite_is_named():
    batches = [batch(0), batch(1), batch(2, NAN)]
    parts = zip(*batches, strict=True)
    data = tf.data.Dataset.from_tensor_slices(tuple(np.stack(part) for part in parts))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        network().fit(refuse_not_finite(data), shuffle=False, verbose=0)
    assert "images [1] of batch 2 contain NaN or infinity; repair or remove them" in str(
        error.value
    )


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from functools import partial
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training.optim.ema import MovingAverage, moving_statistics
from inception_tf.training.optim.skip_nonfinite import FiniteSteps
from inception_tf.training.optim.optimizers import SGD

strategy = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.HierarchicalCopyAllReduce())
with strategy.scope():
    image = keras.Input((2, 2, 3))
    x = BatchNormalization(name="norm")(image)
    x = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    model = keras.Model(image, x)
    statistics = partial(moving_statistics, model)
    optimizer = FiniteSteps(MovingAverage(SGD(0.1), 0.9, statistics), statistics=statistics)
    model.compile(optimizer, "mse", jit_compile=False)
    optimizer.build(model.trainable_variables)

def copies():
    variables = (*model.weights, *optimizer.inner_optimizer.variables)
    return [np.array(c) for v in variables for c in strategy.experimental_local_results(v.value)]

x, y = np.random.default_rng(0).normal(size=(2, 8, 2, 2, 3)).astype("float32"), np.ones((8, 2))
model.train_on_batch(x[0], y)
before = copies()
x[1, 7] = np.nan  # on the second replica alone
model.train_on_batch(x[1], y)
for now, then in zip(copies(), before, strict=True):
    np.testing.assert_array_equal(now, then)
counts = [int(c) for c in strategy.experimental_local_results(optimizer.bad_steps.value)]
assert counts == [1, 1], counts
model.train_on_batch(x[0], y)
counts = [int(c) for c in strategy.experimental_local_results(optimizer.bad_steps.value)]
assert counts == [0, 0], counts
assert any((now != then).any() for now, then in zip(copies(), before, strict=True))
"""


def test_two_replicas_leave_out_a_step_that_is_bad_on_one():
    child = forked.run(["-c", TWO_REPLICAS])
    assert child.returncode == 0, child.stderr
