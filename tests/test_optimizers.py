# SPDX-License-Identifier: Apache-2.0
"""Optimizers, rates and averages, step by step against TensorFlow 1's own."""

from __future__ import annotations

import re
from functools import partial

import forked
import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training import checkpoint
from inception_tf.training.optim.ema import (
    AveragedEvaluation,
    MovingAverage,
    averaged,
    moving_statistics,
)
from inception_tf.training.optim.optimizers import (
    SGD,
    Adam,
    LossScaleOptimizer,
    TF1RMSprop,
    make_optimizer,
    make_schedule,
)

SLIM = (
    "optimizer.name=rmsprop",
    "optimizer.learning_rate=0.01",
    "optimizer.warmup_epochs=0",
    "optimizer.schedule=step",
)


def settings(*changes):
    return Config().override(changes).optimizer


def optimizer(*changes, epochs=10):
    return make_optimizer(settings(*changes), steps_per_epoch=5, epochs=epochs)


def steps(apply, count=12):
    """The values of a variable of six numbers after each of `count` steps along fixed gradients."""
    variable = keras.Variable(ramps.uniform("start", (6,)))
    values = []
    for number in range(count):
        apply(tf.constant(3 * ramps.uniform(f"gradient {number}", (6,))), variable.value)
        values.append(np.array(variable.value))
    return np.array(values)


def ours(optimizer, count=12):
    return steps(lambda g, v: optimizer.apply([g], [v]), count)


def theirs(optimizer, count=12):
    return steps(lambda g, v: optimizer.apply_gradients([(g, v)]), count)


@pytest.mark.parametrize(
    ("epsilon", "momentum", "decay"), [(1.0, 0.9, 0.9), (1e-10, 0.0, 0.9), (0.1, 0.5, 0.99)]
)
def test_rmsprop_is_tensorflow_1s(epsilon, momentum, decay):
    found = ours(
        optimizer(
            *SLIM,
            f"optimizer.epsilon={epsilon}",
            f"optimizer.momentum={momentum}",
            f"optimizer.decay={decay}",
            "optimizer.schedule=constant",
        )
    )
    rmsprop = tf.compat.v1.train.RMSPropOptimizer(0.01, decay, momentum, epsilon)
    np.testing.assert_allclose(found, theirs(rmsprop), rtol=2e-5, atol=1e-6)


def test_rmsprop_has_slims_epsilon_and_a_start_that_keras_has_not():
    start = ramps.uniform("start", (6,))
    slim = ours(optimizer(*SLIM), 1)[0] - start
    keras_own = keras.optimizers.RMSprop(0.01, 0.9, 0.9, epsilon=1.0)
    squares = np.square(3 * ramps.uniform("gradient 0", (6,)))
    expected = np.sqrt((0.9 + 0.1 * squares + 1) / (0.1 * squares + 1))
    np.testing.assert_allclose((ours(keras_own, 1)[0] - start) / slim, expected, rtol=1e-4)


def test_the_ones_are_not_written_again_at_each_traced_step():
    rmsprop = TF1RMSprop(0.01)
    variable = keras.Variable([1.0])
    step = tf.function(lambda: rmsprop.apply([tf.constant([0.0])], [variable]))
    step(), step()
    (squares,) = (v for v in rmsprop.variables if "velocity" in v.name)
    np.testing.assert_allclose(squares, [0.81], rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_tensorflow_1s(nesterov):
    found = ours(
        optimizer(
            *SLIM,
            "optimizer.name=sgd",
            "optimizer.momentum=0.8",
            f"optimizer.nesterov={nesterov}",
            "optimizer.schedule=constant",
        )
    )
    momentum = tf.compat.v1.train.MomentumOptimizer(0.01, 0.8, use_nesterov=nesterov)
    np.testing.assert_allclose(found, theirs(momentum), rtol=2e-5, atol=1e-6)


def test_adam_is_keras_and_as_near_its_formula():
    found = ours(optimizer("optimizer.warmup_epochs=0", "optimizer.schedule=constant"), 100)
    keras_own = ours(keras.optimizers.Adam(0.001), 100)
    np.testing.assert_allclose(found, keras_own, rtol=0, atol=1e-6)
    weight, mean, square = ramps.uniform("start", (6,)).astype("float64"), 0.0, 0.0
    truth = []
    for number in range(100):
        gradient = 3 * ramps.uniform(f"gradient {number}", (6,)).astype("float64")
        mean += (gradient - mean) * (1 - 0.9)
        square += (gradient**2 - square) * (1 - 0.999)
        rate = 0.001 * np.sqrt(1 - 0.999 ** (number + 1)) / (1 - 0.9 ** (number + 1))
        weight = weight - rate * mean / (np.sqrt(square) + 1e-7)
        truth.append(weight)
    error, keras_error = (np.abs(values - truth).mean() for values in (found, keras_own))
    assert error <= 1.1 * keras_error


def test_adamw_is_keras_and_decays_kernels_alone():
    def trained(optimizer):
        kernel = keras.Variable(ramps.uniform("kernel", (3, 2)), name="kernel")
        beta = keras.Variable(ramps.uniform("beta", (2,)), name="beta")
        for number in range(8):
            gradients = [tf.constant(ramps.uniform(f"{number}", v.shape)) for v in (kernel, beta)]
            optimizer.apply(gradients, [kernel, beta])
        return np.array(kernel), np.array(beta)

    words = ("optimizer.name=adamw", "optimizer.weight_decay=0.2", "optimizer.learning_rate=0.05")
    found = trained(optimizer(*words, "optimizer.warmup_epochs=0", "optimizer.schedule=constant"))
    keras_own = keras.optimizers.AdamW(0.05, weight_decay=0.2)
    keras_own.exclude_from_weight_decay(var_names=["beta"])
    for ours_, theirs_ in zip(found, trained(keras_own), strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=0, atol=1e-5)  # a step is 0.05


def test_adagrad_is_tensorflow_1s():
    found = ours(
        optimizer(*SLIM, "optimizer.name=adagrad", "optimizer.schedule=constant"),
    )
    # Its accumulator begins at 0.1 as Keras' does; it has no epsilon.
    adagrad = tf.compat.v1.train.AdagradOptimizer(0.01, initial_accumulator_value=0.1)
    np.testing.assert_allclose(found, theirs(adagrad), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad", "sgd", "rmsprop"])
def test_a_layer_with_half_the_learning_rate_is_one_with_half_the_learning_rate(name):
    words = (f"optimizer.name={name}", "optimizer.warmup_epochs=0", "optimizer.schedule=constant")
    words += ("optimizer.weight_decay=0.1",) if name == "adamw" else ()

    def trained(rate, factors):
        found = make_optimizer(
            settings(*words, f"optimizer.learning_rate={rate}"),
            steps_per_epoch=5,
            epochs=10,
            rate_factors=factors,
        )
        layers = [
            keras.layers.Dense(2, name=layer) for layer in ("Mixed_5b_0", "Mixed_5c_0", "Logits")
        ]
        for layer in layers:
            layer.build((None, 3))
            layer.kernel.assign(ramps.uniform("start", (3, 2)))
        kernels = [layer.kernel for layer in layers]
        for number in range(5):
            gradient = tf.constant(ramps.uniform(f"gradient {number}", (3, 2)))
            found.apply([gradient] * 3, kernels)
        return [np.array(kernel) for kernel in kernels]

    slow, half, whole = trained(0.1, {"Mixed_5": 0.25, "Mixed_5c": 0.5})
    np.testing.assert_allclose(whole, trained(0.1, None)[0], rtol=1e-6)
    np.testing.assert_allclose(half, trained(0.05, None)[0], rtol=1e-6)
    np.testing.assert_allclose(slow, trained(0.025, None)[0], rtol=1e-6)


def test_accumulated_gradients_update_as_one_large_batch_does():
    words = ("optimizer.name=sgd", "optimizer.learning_rate=0.1", "optimizer.clip_norm=1.0")
    words += ("optimizer.warmup_epochs=0", "optimizer.schedule=constant")

    def trained(accumulated, gradients):
        inner = optimizer(*words, f"optimizer.accumulation_steps={accumulated}")
        averaging = MovingAverage(inner, 0.9)
        variable = keras.Variable(ramps.uniform("start", (6,)))
        for gradient in gradients:
            averaging.apply([tf.constant(gradient)], [variable])
        return np.array(variable), np.array(averaging.averages[0]), int(averaging.iterations)

    small = [3 * ramps.uniform(f"gradient {number}", (6,)) for number in range(6)]
    large = [np.mean(small[first : first + 3], 0) for first in (0, 3)]
    found, expected = trained(3, small), trained(1, large)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    assert found[2] == expected[2] == 2


@pytest.mark.parametrize("name", ["adamw", "adagrad"])
def test_an_optimizer_is_what_it_was_after_its_configuration_was_written(name):
    made = optimizer(f"optimizer.name={name}", "optimizer.weight_decay=0.1")
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def test_adam_takes_a_float32_step_in_one_operation_and_any_other_as_keras():
    def kinds(dtype, gradient):
        adam, variable = Adam(0.001), keras.Variable([[1.0], [2.0]], dtype=dtype)
        adam.build([variable])
        step = tf.function(lambda: adam.apply([gradient], [variable]))
        graph = step.get_concrete_function().graph
        step()
        assert np.all(keras.ops.convert_to_numpy(variable) < [[1.0], [2.0]])
        return [operation.type for operation in graph.get_operations()]

    ones = tf.ones((2, 1))
    assert kinds("float32", ones).count("ResourceApplyAdam") == 1
    assert "ResourceApplyAdam" not in kinds("float64", ones)
    assert "ResourceApplyAdam" not in kinds("float32", tf.IndexedSlices(ones, [0, 1], (2, 1)))


def test_a_long_gradient_is_clipped_over_all_weights_and_a_short_one_is_not():
    sgd = optimizer(
        *SLIM,
        "optimizer.name=sgd",
        "optimizer.momentum=0",
        "optimizer.learning_rate=1",
        "optimizer.clip_norm=1",
    )
    two = [keras.Variable([0.0]), keras.Variable([0.0])]
    sgd.apply([tf.constant([3.0]), tf.constant([4.0])], two)
    np.testing.assert_allclose([float(v.value[0]) for v in two], [-0.6, -0.8], rtol=1e-6)
    sgd.apply([tf.constant([0.3]), tf.constant([0.4])], two)
    np.testing.assert_allclose([float(v.value[0]) for v in two], [-0.9, -1.2], rtol=1e-6)


@pytest.mark.parametrize("staircase", [False, True])
def test_the_rate_falls_as_tensorflow_1s(staircase):
    rate = make_schedule(
        settings(
            "optimizer.learning_rate=0.01",
            "optimizer.warmup_epochs=0",
            f"optimizer.schedule={'step' if staircase else 'exponential'}",
        ),
        steps_per_epoch=5,
        epochs=8,
    )
    for step in (0, 1, 9, 10, 19, 20, 39):
        expected = tf.compat.v1.train.exponential_decay(0.01, step, 10, 0.94, staircase)()
        assert float(rate(step)) == pytest.approx(float(expected), rel=1e-6)
    assert float(rate(20)) == pytest.approx(0.01 * 0.94**2)


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "step", "constant"])
def test_every_rate_rises_first_and_survives_its_config(schedule):
    rate = make_schedule(
        settings(
            "optimizer.learning_rate=0.8",
            "optimizer.warmup_epochs=2",
            f"optimizer.schedule={schedule}",
        ),
        steps_per_epoch=5,
        epochs=8,
    )
    assert [float(rate(step)) for step in (0, 5, 10)] == pytest.approx([0, 0.4, 0.8])
    later = {"cosine": 0.0, "exponential": 0.94**3, "step": 0.94**3, "constant": 1.0}[schedule]
    assert float(rate(40)) == pytest.approx(0.8 * later, abs=1e-7)
    again = type(rate).from_config(rate.get_config())
    assert [float(again(step)) for step in range(40)] == [float(rate(step)) for step in range(40)]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "schedule=cosin",
            "unknown optimizer.schedule 'cosin'; known: cosine, exponential, step, constant; did",
        ),
        ("rate_decay=0", "optimizer.rate_decay must be above 0, got 0"),
        ("decay_epochs=0", "optimizer.decay_epochs must be above 0, got 0"),
        ("epsilon=0", "optimizer.epsilon must be above 0, got 0"),
        ("clip_norm=-1", "optimizer.clip_norm must be above 0, got -1"),
        ("momentum=1", "optimizer.momentum must be in [0, 1), got 1"),
        ("decay=1.5", "optimizer.decay must be in [0, 1), got 1.5"),
        ("ema=1", "optimizer.ema must be in [0, 1), got 1"),
    ],
)
def test_a_wrong_setting_is_named(setting, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        settings(f"optimizer.{setting}")


# Averages


def network():
    """A compiled network of 2 x 2 places with a normalization, that keeps averages."""
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 2, 3))
    x = BatchNormalization(momentum=0.5, name="norm")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="dense")(x))
    averages = MovingAverage(SGD(0.1, momentum=0.9), 0.9, partial(moving_statistics, model))
    model.compile(averages, "mse", jit_compile=False)
    return model


@pytest.fixture
def net():
    return network()


@pytest.fixture
def data():
    x, y = 1 + ramps.uniform("x", (8, 2, 2, 3)), ramps.uniform("y", (8, 2))
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


def values(model):
    return [np.array(v.value) for v in model.weights]


def test_averages_are_tensorflow_1s_of_weights_and_statistics(net, data):
    net.optimizer.build(net.trainable_variables)
    count = tf.Variable(0)
    tf1 = tf.train.ExponentialMovingAverage(0.9, num_updates=count)
    weights = [v.value for v in net.weights]
    tf1.apply(weights)  # makes the shadows, of the values before the first step
    for _ in range(3):
        for x, y in data:
            net.train_on_batch(x, y)
            count.assign_add(1)
            tf1.apply(weights)
    with averaged(net):
        for variable, weight in zip(net.weights, weights, strict=True):
            np.testing.assert_allclose(
                variable, tf1.average(weight), rtol=1e-5, atol=1e-6, err_msg=variable.path
            )


def test_fit_validates_with_the_averages_and_trains_as_if_it_had_not(net, data):
    history = net.fit(
        data,
        validation_data=data,
        epochs=3,
        callbacks=[AveragedEvaluation()],
        shuffle=False,
        verbose=0,
    )
    plain = network()
    for _ in range(3):  # each `fit` of Keras' use_ema ends with the averages in the weights' place
        plain.fit(data, epochs=1, verbose=0, shuffle=False)
    for ours, alone in zip(values(net), values(plain), strict=True):
        np.testing.assert_array_equal(ours, alone)
    with averaged(plain):
        expected = plain.evaluate(data, verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(plain.evaluate(data, verbose=0), rel=1e-3)


def test_the_weights_come_back_bit_for_bit_after_an_error_too(net, data):
    net.fit(data, epochs=2, verbose=0, shuffle=False)
    before = values(net)
    inside = []

    def interrupted():
        with averaged(net):
            inside.extend(values(net))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not np.array_equal(inside[0], before[0])
    for now, then in zip(values(net), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_averages_begin_at_the_weights_that_training_begins_with(net, data):
    kernel = net.layers[-1].kernel
    kernel.assign(7 * tf.ones_like(kernel))  # as weights that were loaded after `compile`
    net.fit(data.take(1), epochs=1, verbose=0, shuffle=False)
    expected = 7 * 2 / 11 + np.array(kernel.value) * 9 / 11
    with averaged(net):
        np.testing.assert_allclose(kernel, expected, rtol=1e-6)


def test_averages_are_part_of_a_checkpoint(net, data, tmp_path):
    net.fit(data, epochs=2, verbose=0, shuffle=False)
    checkpoint.save(tmp_path, net, checkpoint.Progress(4))
    other = network()
    other.optimizer.build(other.trainable_variables)
    checkpoint.restore(checkpoint.latest(tmp_path), other)
    for model in (net, other):
        model.fit(data, epochs=1, verbose=0, shuffle=False)
    with averaged(net), averaged(other):
        for ours, resumed in zip(values(net), values(other), strict=True):
            np.testing.assert_array_equal(ours, resumed)


def test_a_saved_model_brings_its_optimizer_back(net, data, tmp_path):
    net.fit(data, epochs=1, verbose=0, shuffle=False)
    net.optimizer.others = None  # no variables of the model stand in a configuration
    again = keras.optimizers.deserialize(keras.optimizers.serialize(net.optimizer))
    assert isinstance(again.inner_optimizer, SGD)
    assert (again.decay, again.inner_optimizer.momentum) == (0.9, 0.9)


def test_statistics_that_are_frozen_are_not_averaged(net):
    assert [v.name for v in moving_statistics(net)] == ["moving_mean", "moving_variance"]
    net.layers[1].trainable = False
    assert moving_statistics(net) == []


def test_without_averages_the_weights_stay(data):
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Dense(2)])
    model.compile(Adam(0.1), "mse")
    before = values(model)
    with averaged(model):
        np.testing.assert_array_equal(values(model)[0], before[0])


def test_a_step_that_loss_scaling_leaves_out_moves_no_average():
    variable = keras.Variable([1.0])
    optimizer = LossScaleOptimizer(MovingAverage(SGD(1.0), 0.9), initial_scale=4.0)
    optimizer.build([variable])
    (average,) = optimizer.inner_optimizer.averages
    optimizer.apply([tf.constant([float("inf")])], [variable])
    assert (float(variable.value[0]), float(average.value[0])) == (1, 1)
    assert int(optimizer.iterations) == 0
    optimizer.apply([tf.constant([2.0])], [variable])  # half of 1, by the halved scale
    assert float(variable.value[0]) == 0
    assert float(average.value[0]) == pytest.approx(2 / 11)


def test_float16_trains_with_every_part_of_the_optimizer(data):
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(4, 1, dtype="mixed_float16")(image)
    x = BatchNormalization(dtype="mixed_float16")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(dtype="float32")(x))
    inner = optimizer(*SLIM, "optimizer.clip_norm=1", "optimizer.learning_rate=0.05")
    averages = MovingAverage(inner, 0.9, partial(moving_statistics, model))
    model.compile(LossScaleOptimizer(averages), "mse", jit_compile=False)
    data = data.map(lambda x, y: (x, tf.ones((4, 4))))
    losses = model.fit(data, epochs=8, verbose=0, shuffle=False).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    with averaged(model):
        assert model.evaluate(data, verbose=0) < losses[0]


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from inception_tf.training.optim.ema import MovingAverage
from inception_tf.training.optim.optimizers import SGD, LossScaleOptimizer

def trained(strategy, gradients):
    with strategy.scope():
        variable = keras.Variable([1.0, 2.0])
        inner = SGD(1.0, global_clipnorm=1.0)
        optimizer = LossScaleOptimizer(MovingAverage(inner, 0.9), initial_scale=1.0)
        optimizer.build([variable])
    def step(gradients):
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply([tf.gather(gradients, index)], [variable])
    for pair in gradients:
        tf.function(lambda pair=pair: strategy.run(step, args=(tf.constant(pair),)))()
    average = optimizer.inner_optimizer.averages[0]
    return np.array([strategy.experimental_local_results(v.value) for v in (variable, average)])

two = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.HierarchicalCopyAllReduce())
infinite = float("inf")
halves = [[[3.0, 4.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 4.0]], [[0.1, 0.0], [0.2, infinite]]]
sums = [[[3.0, 4.0]], [[3.0, 4.0]], [[0.3, infinite]]]
found, expected = trained(two, halves), trained(tf.distribute.get_strategy(), sums)
np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-6)
np.testing.assert_array_equal(found[:, 0], found[:, 1])
np.testing.assert_allclose(found[0, 0], [1 - 1.2, 2 - 1.6], rtol=1e-5)
"""


def test_two_replicas_clip_average_and_leave_out_steps_as_one():
    child = forked.run(["-c", TWO_REPLICAS])
    assert child.returncode == 0, child.stderr
