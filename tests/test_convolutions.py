# SPDX-License-Identifier: Apache-2.0
"""Faster ways to convolutions' gradients, held against TensorFlow's own and against float64."""

from __future__ import annotations

import forked
import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf

from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training import convolutions
from inception_tf.training.convolutions import filter_gradient, speed_up_convolutions

KERNELS = [(1, 1), (3, 3), (1, 7), (7, 1), (3, 1), (5, 5), (2, 3), (4, 4)]
GRIDS = [(7, 7), (8, 9), (10, 7), (1, 9), (1, 1)]


@pytest.fixture
def here(monkeypatch):
    """A processor where the faster ways are taken."""
    monkeypatch.setattr(convolutions, "has_vector_bfloat16", lambda: True)


def tensorflows_own(x, back, kernel, stride, padding):
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x,
        filter_sizes=kernel,
        out_backprop=back,
        strides=(1, stride, stride, 1),
        padding=padding,
    )


def operands(grid, kernel, stride, padding, dtype="float64"):
    """x and the gradient by the result of its convolution, two images."""
    x = tf.cast(ramps.uniform("x", (2, *grid, kernel[2])), dtype)
    shape = tf.nn.conv2d(tf.cast(x, "float32"), tf.zeros(kernel), stride, padding).shape
    return x, tf.cast(ramps.uniform("back", tuple(shape)), dtype)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_products_are_the_gradient_by_the_filter(kernel, stride, padding):
    for grid in GRIDS:
        if padding == "VALID" and any(a < b for a, b in zip(grid, kernel, strict=True)):
            continue
        shape = (*kernel, 3, 4)
        x, back = operands(grid, shape, stride, padding)
        found = filter_gradient(x, back, shape, stride, padding)
        expected = tensorflows_own(x, back, shape, stride, padding)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=str(grid))


def test_the_number_of_images_need_not_be_known():
    kernel = (3, 3, 3, 4)
    x, back = operands((7, 8), kernel, 2, "SAME")
    open_batch = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in (x, back)]
    found = tf.function(
        lambda x, back: filter_gradient(x, back, kernel, 2, "SAME"), input_signature=open_batch
    )(x, back)
    np.testing.assert_allclose(
        found, tensorflows_own(x, back, kernel, 2, "SAME"), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("grid", "kernel", "stride", "padding"),
    [
        ((17, 17), (7, 1, 128, 128), 1, "SAME"),
        ((17, 17), (1, 7, 128, 160), 1, "SAME"),
        ((17, 17), (3, 3, 128, 128), 2, "VALID"),
        ((8, 8), (3, 3, 160, 128), 1, "SAME"),
        ((8, 8), (1, 1, 256, 128), 1, "SAME"),
    ],
)
def test_in_bfloat16_products_are_no_farther_from_the_truth(grid, kernel, stride, padding):
    x, back = operands(grid, kernel, stride, padding, "bfloat16")
    truth = tensorflows_own(*(tf.cast(t, "float64") for t in (x, back)), kernel, stride, padding)
    ours, theirs = (
        float(tf.norm(tf.cast(way(x, back, kernel, stride, padding), "float64") - truth))
        for way in (filter_gradient, tensorflows_own)
    )
    assert ours <= 1.02 * theirs


def network(dtype="mixed_bfloat16"):
    """A small block of each kind of convolution that gains, and of some that do not."""

    def conv(x, filters, kernel, name, strides=1, padding="same", **options):
        options = {"use_bias": False, "dtype": dtype} | options
        x = keras.layers.Conv2D(filters, kernel, strides, padding, name=name, **options)(x)
        x = BatchNormalization(epsilon=1e-3, scale=False, dtype=dtype, name=f"{name}_bn")(x)
        return keras.layers.Activation("relu", dtype=dtype)(x)

    image = keras.Input((11, 11, 3), name="image")
    x = conv(image, 128, 3, "stem")
    a = conv(x, 160, 1, "a")
    b = conv(conv(x, 128, 1, "b"), 128, (1, 7), "b_row")
    c = conv(conv(conv(x, 48, 1, "c"), 128, (3, 1), "c_narrow"), 128, (7, 1), "c_column")
    pool = keras.layers.AveragePooling2D(3, 1, "same", dtype=dtype)(x)
    x = keras.layers.Concatenate(dtype=dtype)([a, b, c, conv(pool, 128, 1, "d", use_bias=True)])
    x = conv(x, 128, 1, "wide")
    x = conv(x, 128, 3, "reduced", strides=2, padding="valid")
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    model = keras.Model(image, keras.layers.Dense(4, dtype="float32", name="logits")(x))
    ramps.fill(model)
    return model


def filled(model, like):
    model.set_weights(like.get_weights())
    return model


def gradients(model, *, graph=True):
    """The result and the gradient by each variable, of a loss that tells all of them apart."""
    images = tf.constant(ramps.images(3, 11, 11, 3))

    def step():
        with tf.GradientTape() as tape:
            y = model(images, training=True)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, "float32")) * ramps.uniform("loss", y.shape))
        return y, tape.gradient(loss, [v.value for v in model.trainable_weights])

    return tf.function(step)() if graph else step()


@pytest.mark.parametrize("graph", [True, False])
def test_a_network_has_gradients_as_near_the_truth_as_without(here, graph):
    plain = network()
    truth = filled(network("float64"), plain)
    fast = filled(network(), plain)
    speed_up_convolutions(fast)
    (y, ours), (y_plain, theirs), (_, exact) = (
        gradients(model, graph=graph) for model in (fast, plain, truth)
    )
    np.testing.assert_allclose(y, y_plain, atol=0.02 * np.abs(y_plain).max())

    def error(found):
        return [
            float(
                tf.norm(tf.cast(a, "float64") - tf.cast(b, "float64"))
                / tf.norm(tf.cast(b, "float64"))
            )
            for a, b in zip(found, exact, strict=True)
        ]

    names = [v.path for v in plain.trainable_weights]
    for name, found, own in zip(names, error(ours), error(theirs), strict=True):
        # A value at a relu's edge may fall to either side in either.
        assert found <= 1.5 * own + 1e-3, name
    assert np.mean(error(ours)) <= 1.05 * np.mean(error(theirs))


def operations(model):
    """How often the graph of a step has each operation."""
    images = tf.TensorSpec((3, 11, 11, 3))

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True))
        return tape.gradient(loss, [v.value for v in model.trainable_weights])

    graph = tf.function(step).get_concrete_function(images).graph
    kinds = [operation.type for operation in graph.get_operations()]
    return {kind: kinds.count(kind) for kind in set(kinds)}


def test_siblings_are_one_convolution_and_wide_filters_have_products(here):
    model = network()
    before = operations(model)
    speed_up_convolutions(model)
    after = operations(model)
    assert before["Conv2D"] - after["Conv2D"] == 2  # a, b and c are one
    # Left alone: stem, c_narrow and d, whose bias TensorFlow adds inside the convolution.
    assert (before["Conv2DBackpropFilter"], after["Conv2DBackpropFilter"]) == (10, 3)


def changed(model):
    return {layer.name for layer in model.layers if "convolution_op" in vars(layer)}


def test_another_processor_another_precision_and_frozen_layers_are_left_alone(monkeypatch):
    model = network()
    monkeypatch.setattr(convolutions, "has_vector_bfloat16", lambda: False)
    speed_up_convolutions(model)
    assert not changed(model)
    monkeypatch.setattr(convolutions, "has_vector_bfloat16", lambda: True)
    for dtype in ("float32", "mixed_float16"):
        other = network(dtype)
        speed_up_convolutions(other)
        assert not changed(other)
    model.get_layer("a").trainable = model.get_layer("wide").trainable = False
    speed_up_convolutions(model)
    assert changed(model) == {"b", "c", "b_row", "c_column", "reduced"}


def test_a_layer_that_thaws_gains_too(here):
    model = network()
    model.get_layer("wide").trainable = False
    speed_up_convolutions(model)
    model.get_layer("wide").trainable = True
    speed_up_convolutions(model)
    assert changed(model) == {"a", "b", "c", "wide", "b_row", "c_column", "reduced"}


def test_one_of_the_siblings_can_be_called_alone_and_again(here):
    model = network()
    x = tf.cast(ramps.images(2, 11, 11, 128), "bfloat16")
    layer = model.get_layer("b")
    expected = layer(x)
    speed_up_convolutions(model)
    for _ in range(2):
        np.testing.assert_allclose(
            *(tf.cast(y, "float32") for y in (layer(x), expected)), rtol=0.02, atol=0.02
        )


def test_copies_and_files_know_nothing_of_it(here, tmp_path):
    model = network()
    names, config = [w.path for w in model.weights], model.to_json()
    speed_up_convolutions(model)
    assert [w.path for w in model.weights] == names
    assert model.to_json() == config
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {type(layer) for layer in convolutions} == {keras.layers.Conv2D}
    model.save(tmp_path / "model.keras")
    copies = [keras.models.load_model(tmp_path / "model.keras"), keras.models.clone_model(model)]
    assert not any(changed(copy) for copy in copies)
    images = ramps.images(2, 11, 11, 3)
    expected = copies[0].predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=0.02)


def test_a_savedmodel_of_it_predicts_the_same(here, tmp_path):
    model = network()
    speed_up_convolutions(model)
    images = ramps.images(2, 11, 11, 3)
    expected = model.predict(images, verbose=0)
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    found = saved.serve(images)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def with_lora(dtype="mixed_bfloat16"):
    model = network(dtype)
    layer = model.get_layer("b_row")
    layer.enable_lora(2)
    for name, weight in (("a", layer.lora_kernel_a), ("b", layer.lora_kernel_b)):
        weight.assign(ramps.uniform(name, tuple(weight.shape)))
    return model


def test_lora_trains_through_products(here):
    exact = gradients(with_lora("float32"), graph=False)[1]
    model = with_lora()
    plain = gradients(model, graph=False)[1]
    speed_up_convolutions(model)
    for found, before, truth in zip(gradients(model)[1], plain, exact, strict=True):
        allowed = 1.1 * float(tf.norm(before - truth)) + 0.005 * float(tf.norm(truth))
        assert float(tf.norm(found - truth)) < allowed


TINY = ["--model", "inception_v2", "--size", "64", "--batch-size", "2", "--rounds", "1"]


def table(root, script):
    """The rows of the table that a benchmark of a short network prints last, as lists of cells."""
    words = [root / "tests/with_short_networks.py", root / "benchmarks" / script, *TINY]
    child = forked.run(words, optimizers=False)
    assert child.returncode == 0, child.stderr
    lines = child.stdout.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[begin + 1 :]]


@pytest.mark.slow
def test_the_benchmark_of_convolutions_counts_all_of_them(root):
    *rows, total = table(root, "convolutions.py")
    assert sum(int(row[1]) for row in rows) == int(total[1])
    spent = sum(int(row[1]) * float(row[8]) for row in rows)
    assert float(total[8]) == pytest.approx(spent, rel=0.1)


@pytest.mark.slow
def test_the_benchmark_of_the_step_compares_its_parts(root):
    rows = table(root, "step.py")
    assert [row[0] for row in rows][::4] == ["without", "with all"]
    assert float(rows[0][2]) == float(rows[0][4]) == 1
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
