# SPDX-License-Identifier: Apache-2.0
"""Population statistics against Algorithm 2 of the batch normalization paper, written out in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps

from inception_tf.errors import UserError
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training.optim.recalibrate import recalibrate

EPSILON = 1e-3


def network(norm, dtype="float32"):
    """(N, 4, 4, 3) → a 1x1 convolution, normalization, relu, dropout, a mean over places, dense, normalization."""
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(5, 1, use_bias=False, name="conv", dtype=dtype)(image)
    x = norm(name="places", epsilon=EPSILON, dtype=dtype)(x)
    x = keras.layers.ReLU(dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    x = keras.layers.Dropout(0.5, seed=1, dtype=dtype, name="dropout")(x)
    x = keras.layers.Dense(4, use_bias=False, name="dense", dtype=dtype)(x)
    x = norm(name="vector", epsilon=EPSILON, dtype=dtype)(x)
    outputs = {"predictions": x, "aux_predictions": keras.layers.Dense(2, name="aux")(x)}
    model = keras.Model(image, outputs)
    for weight in model.trainable_weights:
        weight.assign(1 + ramps.uniform(weight.path, tuple(weight.shape)))
    return model


@pytest.fixture
def batches():
    return [3 * ramps.uniform(f"batch {number}", (6, 4, 4, 3)) + 1 for number in range(4)]


def algorithm_2(model, batches):
    """Lines 8 to 10 with sums in float64: `{layer: (E[x], Var[x])}`."""
    weights = {v.path: np.asarray(v.value, np.float64) for v in model.trainable_weights}
    seen = {"places": [], "vector": []}

    def normalized(name, x):
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        seen[name].append((mean, variance, x.size // x.shape[-1]))
        unit = (x - mean) / np.sqrt(variance + EPSILON)
        return unit * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    for batch in batches:
        x = batch.astype(np.float64) @ weights["conv/kernel"][0, 0]
        x = np.maximum(normalized("places", x), 0).mean((1, 2))
        normalized("vector", x @ weights["dense/kernel"])
    population = {}
    for name, found in seen.items():
        values = found[0][2]
        mean = np.mean([mean for mean, _, _ in found], axis=0)
        variance = values / (values - 1) * np.mean([variance for _, variance, _ in found], axis=0)
        population[name] = (mean, variance)
    return population


def statistics(model, name):
    norm = model.get_layer(name)
    return np.array(norm.moving_mean.value), np.array(norm.moving_variance.value)


@pytest.mark.parametrize("norm", [BatchNormalization, keras.layers.BatchNormalization])
def test_the_statistics_are_those_of_algorithm_2(norm, batches):
    model = network(norm)
    assert recalibrate(model, batches, 4) == 2
    for name, expected in algorithm_2(model, batches).items():
        for found, value in zip(statistics(model, name), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_statistics_that_had_run_away_are_counted_anew(batches):
    model, clean = network(BatchNormalization), network(BatchNormalization)
    model.get_layer("places").moving_variance.assign(np.full(5, np.nan))
    recalibrate(model, batches, 4)
    recalibrate(clean, batches, 4)
    for ours, theirs in zip(model.weights, clean.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_compiled_model_keeps_weights_slots_seeds_and_its_training(batches):
    model = network(BatchNormalization)
    model.compile("adam", {"predictions": "mse", "aux_predictions": "mse"}, jit_compile=False)
    targets = {"predictions": np.ones((6, 4)), "aux_predictions": np.ones((6, 2))}
    model.train_on_batch(batches[0], targets)
    moving = {"moving_mean", "moving_variance"}
    kept = [v for v in (*model.variables, *model.optimizer.variables) if v.name not in moving]
    before = [np.array(v.value) for v in kept]
    recalibrate(model, [(batch, targets) for batch in batches], 4)
    for variable, value in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert model.get_layer("places").momentum == 0.99
    assert model.get_layer("dropout").rate == 0.5
    mean, _ = statistics(model, "places")
    model.train_on_batch(batches[1], targets)
    assert 0 < np.abs(statistics(model, "places")[0] - mean).max() < 0.1


def test_a_frozen_normalization_is_left_alone_and_feeds_the_next_as_it_does_in_training(batches):
    model = network(BatchNormalization)
    model.get_layer("places").trainable = False
    before = statistics(model, "places")
    assert recalibrate(model, batches, 4) == 1
    for found, value in zip(statistics(model, "places"), before, strict=True):
        np.testing.assert_array_equal(found, value)
    inner = keras.Model(model.input, model.get_layer("vector").input)
    mean = np.mean([inner(batch, training=False) for batch in batches], axis=(0, 1))
    np.testing.assert_allclose(statistics(model, "vector")[0], mean, rtol=1e-4, atol=1e-5)


def test_normalizations_of_a_model_inside_the_model_are_set_too(batches):
    inner = network(BatchNormalization)
    image = keras.Input((4, 4, 3))
    outer = keras.Model(image, inner(image))
    assert recalibrate(outer, batches, 4) == 2
    mean, _ = algorithm_2(inner, batches)["places"]
    np.testing.assert_allclose(statistics(inner, "places")[0], mean, rtol=1e-5, atol=1e-5)


def test_bfloat16_layers_keep_float32_statistics(batches):
    model = network(BatchNormalization, "mixed_bfloat16")
    recalibrate(model, batches, 4)
    for name, expected in algorithm_2(model, batches).items():
        for found, value in zip(statistics(model, name), expected, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, value, rtol=0.05, atol=0.05, err_msg=name)


class Frozen(keras.Model):
    """Keras' guide to fine-tuning: the base is called with training=False, whatever the model's mode."""

    def __init__(self, base, *more):
        super().__init__()
        self.base, self.more = base, list(more)

    def call(self, x, training=None):
        x = self.base(x, training=False)["predictions"]
        for layer in self.more:
            x = layer(x, training=training)
        return x


def test_a_base_that_is_called_with_training_false_is_refused_and_keeps_its_statistics(batches):
    base = network(BatchNormalization)
    base(batches[0], training=True)
    before = [np.array(v.value) for v in base.variables]
    model = Frozen(base)
    model(batches[0])
    with pytest.raises(UserError, match="none of the 2 .* ran in training mode"):
        recalibrate(model, batches, 4)
    for variable, value in zip(base.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_what_runs_in_training_mode_is_set_and_the_rest_is_counted(batches):
    base, norm = network(BatchNormalization), keras.layers.BatchNormalization(name="head")
    base(batches[0], training=True)
    model = Frozen(base, norm)
    model(batches[0])
    features = [base(batch, training=False)["predictions"] for batch in batches]
    with pytest.warns(UserWarning, match="2 of 3 batch normalizations of .* keep"):
        assert recalibrate(model, batches, 4) == 1
    np.testing.assert_allclose(
        norm.moving_mean, np.mean(features, axis=(0, 1)), rtol=1e-4, atol=1e-5
    )


class Wrapping(keras.layers.Layer):
    """A custom layer around a model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=None):
        return self.inner(x, training=training)["predictions"]


@pytest.mark.parametrize("wrapping", ["custom layer", "TimeDistributed", "Sequential", "list"])
def test_normalizations_are_found_at_any_depth(wrapping, batches):
    inner = network(BatchNormalization)
    plain = keras.Model(inner.input, inner.output["predictions"])
    if wrapping == "TimeDistributed":
        image = keras.Input((1, 4, 4, 3))
        outer = keras.Model(image, keras.layers.TimeDistributed(plain)(image))
        given = [batch[:, np.newaxis] for batch in batches]
    elif wrapping == "Sequential":
        outer, given = (
            keras.Sequential([keras.Input((4, 4, 3)), keras.Sequential([plain])]),
            batches,
        )
    else:
        image = keras.Input((4, 4, 3))
        outer = keras.Model(image, Wrapping(inner)(image))
        given = [[batch, np.ones(6)] for batch in batches] if wrapping == "list" else batches
    assert recalibrate(outer, given, 4) == 2
    for name, expected in algorithm_2(inner, batches).items():
        for found, value in zip(statistics(inner, name), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_call_that_a_user_put_on_a_layer_is_still_there(batches):
    model = network(BatchNormalization)
    norm = model.get_layer("places")
    called = norm.call
    norm.call = lambda *arguments, **options: called(*arguments, **options)
    users = norm.call
    recalibrate(model, batches, 4)
    assert norm.call is users
    assert "call" not in vars(model.get_layer("vector"))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_model_without_normalization_to_set_is_refused(frozen, batches):
    model = network(BatchNormalization)
    if frozen:
        model.trainable = False
    else:
        model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Dense(2)])
    with pytest.raises(UserError, match="has no batch normalization that is trainable"):
        recalibrate(model, batches, 1)


@pytest.mark.parametrize(
    ("images", "count", "sentence"),
    [
        ([np.ones((2, 4, 4, 3))], 0, "take 1 batch or more, got 0"),
        ([np.ones((2, 4, 4, 3))], 3, "over 3 batches need as many, the data has 1; ask for fewer"),
        (
            [np.ones((1, 4, 4, 3))],
            1,
            "of 'vector' are not finite; give batches of 2 images or more, without NaN",
        ),
        ([np.full((2, 4, 4, 3), np.nan)], 1, "of 'places' are not finite"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_set(images, count, sentence):
    model = network(BatchNormalization)
    before = [np.array(v.value) for v in model.weights]
    with pytest.raises(UserError, match=sentence):
        recalibrate(model, images, count)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
