# SPDX-License-Identifier: Apache-2.0
"""What Ioffe and Szegedy 2015 say of the batch normalization transform, section 3, equation by equation.

Beside these: the fused operation against Keras' layer in tests/test_fused_batch_norm.py, Algorithm 2's statistics
over many batches in tests/test_recalibrate.py, its affine map inside a convolution in tests/test_optimize.py.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps
import tensorflow as tf

from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training.optim.recalibrate import recalibrate

EPSILON = 1e-3
TINY = 1e-14  # in float64, for what holds where epsilon is neglected
LAYERS = [keras.layers.BatchNormalization, BatchNormalization]
BATCH, INPUTS, UNITS = 7, 5, 3
EXACT = {"rtol": 1e-9, "atol": 1e-12}  # float64 against float64
SINGLE = {"rtol": 1e-5, "atol": 1e-5}  # float32 against float64


def values(name, shape):
    """float64 around 1, so that a mistake in the mean shows."""
    return 1 + 2 * ramps.uniform(name, shape).astype(np.float64)


def normalization(kind, shape, epsilon=EPSILON, dtype="float64"):
    """A layer whose gamma and beta are neither 1 nor 0; what it has seen is all it remembers."""
    layer = kind(epsilon=epsilon, momentum=0.0, dtype=dtype)
    layer.build(shape)
    layer.gamma.assign(values("gamma", shape[-1:]))
    layer.beta.assign(values("beta", shape[-1:]))
    return layer


def algorithm_1(x, epsilon=EPSILON):
    """(m, C) → y (m, C) by the gamma and beta of `normalization`, with the equations of Algorithm 1."""
    mean = np.sum(x, axis=0) / len(x)
    variance = np.sum((x - mean) ** 2, axis=0) / len(x)
    unit = (x - mean) / np.sqrt(variance + epsilon)
    return values("gamma", x.shape[-1:]) * unit + values("beta", x.shape[-1:])


@pytest.mark.parametrize("kind", LAYERS)
def test_algorithm_1_forward(kind):
    """mu = 1/m sum x_i,  sigma^2 = 1/m sum (x_i - mu)^2,  y_i = gamma (x_i - mu) / sqrt(sigma^2 + epsilon) + beta"""
    x = values("x", (BATCH, UNITS))
    found = normalization(kind, x.shape)(x, training=True)
    np.testing.assert_allclose(found, algorithm_1(x), **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_normalized_values_have_mean_0_and_variance_1_where_epsilon_is_neglected(kind):
    """sum x^_i = 0,  1/m sum x^_i^2 = 1"""
    x = values("x", (BATCH, UNITS))
    layer = kind(epsilon=TINY, center=False, scale=False, dtype="float64")
    unit = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(unit.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((unit**2).mean(axis=0), 1, rtol=1e-9)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_transform_can_be_the_identity(kind):
    """gamma = sqrt(Var[x] + epsilon), beta = E[x]  gives  y = x"""
    x = values("x", (BATCH, UNITS))
    layer = normalization(kind, x.shape)
    layer.gamma.assign(np.sqrt(x.var(axis=0) + EPSILON))
    layer.beta.assign(x.mean(axis=0))
    np.testing.assert_allclose(layer(x, training=True), x, **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_value_depends_on_its_mini_batch_in_training_and_on_itself_alone_in_inference(kind):
    """y_i = BN(x_i; x_1...m) in training,  y = BN(x) afterwards"""
    x = values("x", (BATCH, UNITS))
    other = np.concatenate([x[:1], 3 * x[1:]])
    layer = normalization(kind, x.shape)
    in_training = [np.asarray(layer(batch, training=True))[0] for batch in (x, other)]
    assert np.abs(in_training[0] - in_training[1]).max() > 0.1
    alone, among = (np.asarray(layer(batch, training=False))[0] for batch in (x[:1], other))
    np.testing.assert_allclose(alone, among, **EXACT)


class Chain:
    """Algorithm 1 in TensorFlow's operations, and dl/d(each of its values) by automatic differentiation."""

    def __init__(self):
        self.x = tf.constant(values("x", (BATCH, UNITS)))
        self.gamma = tf.constant(values("gamma", (UNITS,)))
        self.beta = tf.constant(values("beta", (UNITS,)))
        self.m = BATCH
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((self.x, self.gamma, self.beta))
            self.mean = tf.reduce_mean(self.x, axis=0)
            self.variance = tf.reduce_mean((self.x - self.mean) ** 2, axis=0)
            self.unit = (self.x - self.mean) * (self.variance + EPSILON) ** -0.5
            self.y = self.gamma * self.unit + self.beta
            loss = self.loss(self.y)
        names = ("x", "gamma", "beta", "mean", "variance", "unit", "y")
        self.d = {name: tape.gradient(loss, getattr(self, name)).numpy() for name in names}
        self.centred = (self.x - self.mean).numpy()
        self.deviation = np.sqrt(self.variance.numpy() + EPSILON)

    @staticmethod
    def loss(y):
        """Neither linear nor even: a sum of y, or of y squared, has next to no gradient by x."""
        return tf.reduce_sum(tf.sin(2 * y) * values("loss", y.shape))


@pytest.fixture(scope="module")
def chain():
    return Chain()


def test_the_gradient_by_the_normalized_values(chain):
    """dl/dx^_i = dl/dy_i gamma"""
    np.testing.assert_allclose(chain.d["unit"], chain.d["y"] * chain.gamma, **EXACT)


def test_the_gradient_by_the_variance(chain):
    """dl/dsigma^2 = sum dl/dx^_i (x_i - mu) (-1/2) (sigma^2 + epsilon)^(-3/2)"""
    expected = np.sum(chain.d["unit"] * chain.centred * -0.5 * chain.deviation**-3, axis=0)
    np.testing.assert_allclose(chain.d["variance"], expected, **EXACT)


def test_the_gradient_by_the_mean(chain):
    """dl/dmu = sum dl/dx^_i (-1) / sqrt(sigma^2 + epsilon) + dl/dsigma^2 (sum -2 (x_i - mu)) / m"""
    direct = np.sum(-chain.d["unit"] / chain.deviation, axis=0)
    through_variance = chain.d["variance"] * np.sum(-2 * chain.centred, axis=0) / chain.m
    np.testing.assert_allclose(chain.d["mean"], direct + through_variance, **EXACT)


def test_the_gradient_by_the_inputs(chain):
    """dl/dx_i = dl/dx^_i / sqrt(sigma^2 + epsilon) + dl/dsigma^2 2 (x_i - mu) / m + dl/dmu / m"""
    expected = (
        chain.d["unit"] / chain.deviation
        + chain.d["variance"] * 2 * chain.centred / chain.m
        + chain.d["mean"] / chain.m
    )
    np.testing.assert_allclose(chain.d["x"], expected, **EXACT)


def test_the_gradient_by_gamma(chain):
    """dl/dgamma = sum dl/dy_i x^_i"""
    np.testing.assert_allclose(chain.d["gamma"], np.sum(chain.d["y"] * chain.unit, axis=0), **EXACT)


def test_the_gradient_by_beta(chain):
    """dl/dbeta = sum dl/dy_i"""
    np.testing.assert_allclose(chain.d["beta"], np.sum(chain.d["y"], axis=0), **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_layers_gradients_are_those_of_the_six_equations(kind, chain):
    """dl/dx_i, dl/dgamma and dl/dbeta, through mean and variance of the mini-batch"""
    layer = normalization(kind, chain.x.shape)
    with tf.GradientTape() as tape:
        tape.watch(chain.x)
        loss = chain.loss(layer(chain.x, training=True))
    found = tape.gradient(loss, [chain.x, layer.gamma.value, layer.beta.value])
    for name, gradient in zip(("x", "gamma", "beta"), found, strict=True):
        np.testing.assert_allclose(gradient, chain.d[name], err_msg=name, **EXACT)


def test_the_fused_layers_gradients_are_those_of_the_six_equations(chain):
    """The same for (N, 1, 1, C) in float32, which takes TensorFlow's own operation"""
    layer = normalization(BatchNormalization, (BATCH, 1, 1, UNITS), dtype="float32")
    x = tf.cast(chain.x[:, None, None], "float32")

    @tf.function
    def gradients(x):
        assert layer._fuses(x, None)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=True)[:, 0, 0], "float64")
            loss = chain.loss(y)
        return tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    found = gradients(x)
    for name, gradient in zip(("x", "gamma", "beta"), found, strict=True):
        np.testing.assert_allclose(
            np.reshape(gradient, chain.d[name].shape), chain.d[name], err_msg=name, **SINGLE
        )


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", [(BATCH, UNITS), (BATCH, 2, 4, UNITS)])
def test_algorithm_2_infers_by_one_affine_map(kind, shape):
    """y = gamma / sqrt(Var[x] + epsilon) x + (beta - gamma E[x] / sqrt(Var[x] + epsilon))"""
    layer = normalization(kind, shape)
    mean, variance = values("mean", (UNITS,)), 4 + values("variance", (UNITS,))
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    slope = values("gamma", (UNITS,)) / np.sqrt(variance + EPSILON)
    shift = values("beta", (UNITS,)) - slope * mean
    x = values("x", shape)
    np.testing.assert_allclose(layer(x, training=False), slope * x + shift, **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
def test_moving_averages_take_the_biased_variance_and_algorithm_2_the_unbiased(kind):
    """Var[x] = m/(m-1) E_B[sigma_B^2];  Keras' moving average, and ours, has E_B[sigma_B^2] alone"""
    x = values("x", (BATCH, UNITS))
    model = keras.Sequential([keras.Input((UNITS,), dtype="float64"), normalization(kind, x.shape)])
    model(x, training=True)
    moving = np.array(model.layers[0].moving_variance.value)
    np.testing.assert_allclose(moving, x.var(axis=0), **EXACT)
    recalibrate(model, [x], 1)
    unbiased = model.layers[0].moving_variance.value
    np.testing.assert_allclose(unbiased, BATCH / (BATCH - 1) * moving, **EXACT)


def dense_then_normalized(kind, weight, u, epsilon=TINY):
    """BN(Wu) of a mini-batch and its Jacobians by W and by u; weight (INPUTS, UNITS), u (BATCH, INPUTS)."""
    weight, u = tf.constant(weight), tf.constant(u)
    layer = normalization(kind, (BATCH, UNITS), epsilon)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((weight, u))
        y = layer(u @ weight, training=True)
    return tuple(
        np.asarray(found)
        for found in (
            y,
            tape.jacobian(y, weight, experimental_use_pfor=False),
            tape.jacobian(y, u, experimental_use_pfor=False),
        )
    )


@pytest.fixture(scope="module", params=LAYERS)
def scaled(request):
    """BN(Wu) and BN((aW)u) with their Jacobians, a = 7."""
    weight, u = values("W", (INPUTS, UNITS)), values("u", (BATCH, INPUTS))
    return tuple(dense_then_normalized(request.param, a * weight, u) for a in (1.0, 7.0))


def test_the_scale_of_the_weights_does_not_matter(scaled):
    """BN((aW)u) = BN(Wu)"""
    (plain, _, _), (larger, _, _) = scaled
    np.testing.assert_allclose(larger, plain, **EXACT)


def test_the_scale_of_the_weights_does_not_reach_the_layer_below(scaled):
    """dBN((aW)u)/du = dBN(Wu)/du"""
    (_, _, plain), (_, _, larger) = scaled
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(larger, plain, rtol=1e-9, atol=1e-10)


def test_larger_weights_have_smaller_gradients(scaled):
    """dBN((aW)u)/d(aW) = 1/a dBN(Wu)/dW"""
    (_, plain, _), (_, larger, _) = scaled
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(larger, plain / 7, rtol=1e-9, atol=1e-10)


def test_a_negative_scale_turns_the_sign():
    """BN((aW)u) - beta = sign(a) (BN(Wu) - beta): the paper's scalar is a positive one"""
    weight, u = values("W", (INPUTS, UNITS)), values("u", (BATCH, INPUTS))
    plain, turned = (dense_then_normalized(LAYERS[0], a * weight, u)[0] for a in (1.0, -2.0))
    beta = values("beta", (UNITS,))
    np.testing.assert_allclose(turned - beta, beta - plain, **EXACT)


def test_weights_so_small_that_epsilon_counts_do_matter():
    """BN((aW)u) = BN(Wu) neglects epsilon: with a^2 Var[Wu] of epsilon's size the outputs shrink by sqrt(2)"""
    weight, u = values("W", (INPUTS, UNITS)), values("u", (BATCH, INPUTS))
    smallest = np.sqrt(EPSILON / (u @ weight).var(axis=0))
    plain = dense_then_normalized(LAYERS[0], weight, u)[0]
    shrunk = dense_then_normalized(LAYERS[0], smallest * weight, u, EPSILON)[0]
    beta = values("beta", (UNITS,))
    np.testing.assert_allclose(shrunk - beta, (plain - beta) / np.sqrt(2), **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_convolutions_mini_batch_is_all_places_of_all_images(kind):
    """m' = |B| = m p q: Algorithm 1 over the values of a feature map, wherever they lie"""
    x = values("x", (BATCH, 2, 4, UNITS))
    layer = normalization(kind, x.shape)
    found = np.reshape(layer(x, training=True), (-1, UNITS))
    np.testing.assert_allclose(found, algorithm_1(x.reshape(-1, UNITS)), **EXACT)
    # One pair of parameters for a feature map, not for an activation.
    assert layer.gamma.shape == layer.beta.shape == (UNITS,)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_convolutions_population_variance_is_unbiased_for_all_its_places(kind):
    """Var[x] = m'/(m'-1) sigma_B^2,  m' = m p q"""
    x = values("x", (BATCH, 2, 4, UNITS))
    model = keras.Sequential(
        [keras.Input(x.shape[1:], dtype="float64"), normalization(kind, x.shape)]
    )
    recalibrate(model, [x], 1)
    expected = np.var(x, axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(model.layers[0].moving_variance.value, expected, **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_bias_before_the_transform_does_nothing_and_learns_nothing(kind):
    """BN(Wu + b) = BN(Wu),  dl/db = 0"""
    x = tf.constant(values("x", (BATCH, UNITS)))
    bias = tf.constant(values("bias", (UNITS,)))
    layer = normalization(kind, x.shape)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        with_bias = layer(x + bias, training=True)
        loss = Chain.loss(with_bias)
    np.testing.assert_allclose(with_bias, layer(x, training=True), **EXACT)
    np.testing.assert_allclose(tape.gradient(loss, bias), 0, atol=1e-12)
