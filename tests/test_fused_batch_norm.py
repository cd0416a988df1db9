# SPDX-License-Identifier: Apache-2.0
"""Batch normalization by TensorFlow's fused operation, held against Keras' own layer in everything it does."""

from __future__ import annotations

import pickle

import forked
import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf

from inception_tf.nn import fused_batch_norm
from inception_tf.nn.batch_norm import BatchNormalization

# Of the largest value; float16 has 11 bits, bfloat16 8, and both layers round once, at their end.
ROUNDING = {"float32": 1e-5, "mixed_float16": 2e-3, "mixed_bfloat16": 1.6e-2}
SHAPES = [(4, 6, 5, 7), (1, 9, 1, 3), (3, 1, 1, 4), (1, 1, 1, 2)]


def pair(shape, **arguments):
    """Keras' layer and ours, of equal weights that are neither 0 nor 1."""
    layers = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        layer = kind(**arguments)
        layer.build(shape)
        for variable in layer.weights:
            variable.assign(1 + 0.5 * ramps.uniform(variable.name, variable.shape))
        layers.append(layer)
    return layers


def images(shape, dtype="float32"):
    """Values around 1, so that a mistake in the mean shows."""
    return tf.cast(1 + ramps.uniform("images", shape), dtype)


def step(layer, x, *, training=True):
    """Outputs, gradients by x and by each trained weight, and the moving statistics after it, by a graph."""
    return tf.function(lambda x: steps_of(layer, x, training), autograph=False)(x)


def steps_of(layer, x, training=True):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        # Neither linear nor even: the sum of y and of y squared have next to no gradient by x.
        loss = tf.reduce_sum(tf.sin(2 * tf.cast(y, "float32")) * ramps.uniform("loss", y.shape))
    gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_weights)])
    named = zip(["x", *(v.name for v in layer.trainable_weights)], gradients, strict=True)
    return {
        "y": y,
        **{f"gradient by {name}": g for name, g in named},
        **{v.name: v.value for v in layer.non_trainable_weights},
    }


def same(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        value = np.asarray(tf.cast(value, "float32"))
        np.testing.assert_allclose(
            np.asarray(tf.cast(found[name], "float32")),
            value,
            rtol=0,
            # The statistics and their means are sums over the batch, in float32 whatever x is.
            atol=tolerance * max(1, np.abs(value).max()),
            err_msg=name,
        )


@pytest.fixture
def fused_only(monkeypatch):
    """Keras' own way fails, so that a test cannot pass on it."""

    def refuse(*args, **kwargs):
        raise AssertionError("took Keras' way")

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", refuse)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", ROUNDING)
def test_outputs_gradients_and_statistics_are_keras(policy, shape, training):
    theirs, ours = pair(shape, dtype=policy, momentum=0.9)
    x = images(shape, ours.compute_dtype)
    expected, found = (step(layer, x, training=training) for layer in (theirs, ours))
    assert found["moving_variance"].dtype == "float32"
    same(found, expected, ROUNDING[policy])


@pytest.mark.parametrize(
    "arguments", [{"scale": False}, {"center": False}, {"momentum": 0.0}, {"synchronized": True}]
)
def test_every_other_setting_is_keras_too(arguments):
    theirs, ours = pair((4, 6, 5, 7), **arguments)
    expected, found = (step(layer, images((4, 6, 5, 7))) for layer in (theirs, ours))
    same(found, expected, ROUNDING["float32"])


def test_the_moving_variance_is_the_populations_and_not_the_samples(fused_only):
    x = images((2, 1, 2, 1))  # four values: the two differ by a third
    layer = BatchNormalization(momentum=0.0)
    tf.function(lambda x: layer(x, training=True))(x)
    np.testing.assert_allclose(layer.moving_variance, [np.var(x)], rtol=1e-6)


@pytest.mark.skipif(fused_batch_norm.IS_THREAD_SAFE, reason="this TensorFlow's are safe")
@pytest.mark.parametrize("training", [True, False])
def test_eager_execution_takes_no_operation_that_is_unsafe_for_threads(training, monkeypatch):
    layer = BatchNormalization()
    layer.build((None, 2, 2, 1))
    for name in ("train", "infer"):
        monkeypatch.setattr(fused_batch_norm, name, None)
    layer(images((2, 2, 2, 1)), training=training)


def test_a_frozen_layer_infers_and_keeps_its_statistics():
    theirs, ours = pair((4, 6, 5, 7))
    theirs.trainable = ours.trainable = False
    before = np.array(ours.moving_mean.value)
    expected, found = (step(layer, images((4, 6, 5, 7))) for layer in (theirs, ours))
    same(found, expected, ROUNDING["float32"])
    np.testing.assert_array_equal(found["moving_mean"], before)


@pytest.mark.parametrize("policy", ROUNDING)
def test_it_computes_the_same_compiled_by_xla(policy, fused_only):
    shape = (4, 6, 5, 7)
    plain, compiled = (pair(shape, dtype=policy)[1] for _ in range(2))
    x = images(shape, plain.compute_dtype)
    found = tf.function(lambda x: steps_of(compiled, x), jit_compile=True)(x)
    same(found, step(plain, x), ROUNDING[policy])


def test_batches_of_any_size_go_through_one_graph(fused_only):
    _, layer = pair((None, None, None, 7), momentum=0.0)
    any_size = [tf.TensorSpec((None, None, None, 7))]
    graph = tf.function(lambda x: layer(x, training=True), input_signature=any_size)
    for shape in [(4, 6, 5, 7), (2, 3, 3, 7)]:
        graph(images(shape))
        expected = np.var(images(shape), axis=(0, 1, 2))
        np.testing.assert_allclose(layer.moving_variance, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"axis": 1}, (4, 3, 5, 7)),
        ({"axis": 2}, (4, 3, 5, 7)),
        ({}, (8, 5)),
        ({}, (8, 4, 5)),
        ({"epsilon": 1e-6}, (4, 3, 5, 7)),
        ({"dtype": "float64"}, (4, 3, 5, 7)),
        ({"renorm": True}, (4, 3, 5, 7)),
    ],
)
def test_what_the_operation_cannot_do_goes_keras_way(arguments, shape):
    theirs, ours = pair(shape, **arguments)
    x = images(shape, ours.compute_dtype)
    expected, found = (step(layer, x) for layer in (theirs, ours))
    same(found, expected, ROUNDING["float32"])


def test_a_mask_is_honoured():
    theirs, ours = pair((4, 3, 5, 7))
    x = images((4, 3, 5, 7))
    mask = tf.reshape(tf.range(60) % 2 == 0, (4, 3, 5))
    expected, found = (layer(x, training=True, mask=mask) for layer in (theirs, ours))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(found - ours(x, training=True)).max() > 0.01


@pytest.fixture
def net():
    """An image into four numbers through a convolution and our normalization."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
    x = BatchNormalization(scale=False, momentum=0.5)(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def test_weights_pass_to_and_from_keras_own_layer(net, tmp_path):
    net(images((4, 6, 6, 3)), training=True)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
    x = keras.layers.BatchNormalization(scale=False)(x)
    other = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    net.save_weights(tmp_path / "ours.weights.h5")
    other.load_weights(tmp_path / "ours.weights.h5")
    expected = net(images((4, 6, 6, 3)))
    np.testing.assert_allclose(other(images((4, 6, 6, 3))), expected, atol=1e-5)
    other.save_weights(tmp_path / "theirs.weights.h5")
    again = keras.models.clone_model(net)
    again.load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(again(images((4, 6, 6, 3))), expected, atol=1e-6)


def test_a_clone_and_a_pickled_copy_are_fused(net):
    for copied in (keras.models.clone_model(net), pickle.loads(pickle.dumps(net))):
        assert type(copied.layers[2]) is BatchNormalization
    assert pickle.loads(pickle.dumps(BatchNormalization)) is BatchNormalization
    assert BatchNormalization.__module__ == "inception_tf.nn.batch_norm"


def test_a_saved_model_loads_fused_with_this_package_and_without_it_too(net, tmp_path):
    net(images((4, 6, 6, 3)), training=True)
    net.save(tmp_path / "net.keras")
    outer = keras.Sequential([keras.Input((6, 6, 3)), net, keras.layers.Dense(2)])
    outer.save(tmp_path / "outer.keras")
    np.save(tmp_path / "x.npy", images((4, 6, 6, 3)))
    np.save(tmp_path / "y.npy", net(images((4, 6, 6, 3))))
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('net.keras')\n"
        "assert type(model.layers[2]) is keras.layers.BatchNormalization\n"
        "np.testing.assert_allclose(model(np.load('x.npy')), np.load('y.npy'), atol=1e-5)\n"
        "inner = keras.models.load_model('outer.keras').layers[0]\n"
        "assert type(inner.layers[2]) is keras.layers.BatchNormalization\n"
        "assert 'inception_tf' not in sys.modules\n"
        "import inception_tf\n"
        "fused = keras.models.load_model('net.keras').layers[2]\n"
        "assert type(fused).__module__ == 'inception_tf.nn.batch_norm'\n"
    )
    child = forked.run(["-c", program], cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    for name in ("net", "outer"):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        loaded = loaded if name == "net" else loaded.layers[0]
        assert type(loaded.layers[2]) is BatchNormalization


def test_keras_own_layer_stays_keras_own_when_it_is_loaded(tmp_path):
    image = keras.Input((6, 6, 3))
    keras.Model(image, keras.layers.BatchNormalization()(image)).save(tmp_path / "theirs.keras")
    loaded = keras.models.load_model(tmp_path / "theirs.keras")
    assert type(loaded.layers[1]) is keras.layers.BatchNormalization


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16", "float64"])
@pytest.mark.parametrize("shape", [(8, 4, 4, 3), (8, 3)])
def test_a_momentum_of_the_step_is_used_and_not_kept(dtype, shape):
    theirs = keras.layers.BatchNormalization(momentum=0.25, dtype=dtype)
    ours = BatchNormalization(momentum=0.9, dtype=dtype)
    ours.warm_up = lambda momentum: momentum - 0.65
    x = images(shape, theirs.compute_dtype)
    for layer in (theirs, ours):
        layer(x, training=True)
    for expected, found in zip(theirs.variables, ours.variables, strict=True):
        np.testing.assert_allclose(
            np.asarray(found, "float64"), np.asarray(expected, "float64"), rtol=1e-5, atol=1e-7
        )
    assert ours.momentum == 0.9


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
def test_second_order_gradients_are_as_exact_as_keras(training, graph):
    """Of a gradient penalty, against float64; TensorFlow differentiates its operation's gradient by formulas of its own."""
    x, w = (images((8, 6, 6, 4)) + shift for shift in (0.0, 0.5))

    def penalty_gradients(kind, dtype):
        layer = kind(epsilon=1e-3, dtype=dtype)
        layer.build((None, 6, 6, 4))
        layer.moving_variance.assign(np.full(4, 0.2))
        layer.gamma.assign(np.full(4, 0.7))

        def second_order(x, w):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(tf.sin(layer(x, training=training)) * w)
                penalty = tf.reduce_sum(tf.square(inner.gradient(y, x)))
            return outer.gradient(penalty, [x, *layer.trainable_variables])

        call = tf.function(second_order) if graph else second_order
        return call(tf.cast(x, dtype), tf.cast(w, dtype))

    expected = penalty_gradients(keras.layers.BatchNormalization, "float64")
    found = penalty_gradients(BatchNormalization, "float32")
    for ours, exact in zip(found, expected, strict=True):
        scale = np.abs(exact).max()
        np.testing.assert_allclose(ours / scale, exact / scale, atol=1e-5)


def test_an_exported_model_computes_the_same(net, tmp_path):
    net(images((4, 6, 6, 3)), training=True)
    net.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    served = loaded.serve(images((4, 6, 6, 3)))
    np.testing.assert_allclose(served, net(images((4, 6, 6, 3))), atol=1e-6)


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from inception_tf.nn.batch_norm import BatchNormalization

def trained(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([
            keras.Input((4, 4, 3)),
            BatchNormalization(momentum=0.5),
            keras.layers.Conv2D(2, 3),
            BatchNormalization(scale=False, momentum=0.5),
            keras.layers.GlobalAveragePooling2D(),
        ])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(np.arange(8)[:, None, None, None], 1, (8, 4, 4, 3))
    data = tf.data.Dataset.from_tensor_slices((x.astype("float32"), np.ones((8, 2), "float32")))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    model.fit(data.batch(8).with_options(options), epochs=3, verbose=0)
    return model

devices = ["CPU:0", "CPU:1"]
two = trained(tf.distribute.MirroredStrategy(
    devices, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce()))
one = trained(tf.distribute.get_strategy())
for ours, alone in zip(two.weights, one.weights, strict=True):
    for copy in ours.value.values:  # each replica's own
        np.testing.assert_allclose(copy, alone, atol=1e-5, err_msg=alone.path)
"""


def test_two_replicas_train_as_one_and_keep_one_moving_average():
    child = forked.run(["-c", TWO_REPLICAS])
    assert child.returncode == 0, child.stderr


def test_without_a_strategy_there_is_one_replica():
    assert fused_batch_norm.replicas() == 1


@pytest.mark.slow
def test_the_benchmark_compares_training_and_inference(root):
    tiny = ["--model", "inception_v1", "--size", "32", "--batch-size", "2", "--rounds", "1"]
    program = [root / "tests" / "with_short_networks.py", root / "benchmarks" / "batch_norm.py"]
    child = forked.run([*program, *tiny], optimizers=False)
    assert child.returncode == 0, child.stderr
    table = child.stdout
    rows = [line.split(" | ") for line in table.splitlines()[-4:]]
    assert [row[1] for row in rows] == ["training step", "forward"] * 2
    for _, _, theirs, ours, ratio in rows:
        assert float(ratio.rstrip(" |")) == pytest.approx(float(theirs) / float(ours), rel=0.2)
