# SPDX-License-Identifier: Apache-2.0
"""FID in Keras: the metric while a generator is trained and evaluated, and the callback."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps

from inception_tf import UserError
from inception_tf.generative import (
    FeatureStatistics,
    FrechetInceptionDistance,
    frechet_distance,
)

WIDTH, SIDE = 6, 8


def small_features() -> keras.Model:
    """In place of Inception: 6 features of images of any size."""
    made = keras.Sequential(
        [
            keras.layers.Input((None, None, 3)),
            keras.layers.Conv2D(WIDTH, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    ramps.fill(made)
    made.trainable = False
    return made


def small_generator() -> keras.Model:
    """Noise (4,) → an image; gray at first."""
    return keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(3 * SIDE * SIDE, "tanh", kernel_initializer="zeros"),
            keras.layers.Reshape((SIDE, SIDE, 3)),
        ]
    )


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and the images that it decides."""
    noise = ramps.uniform("noise", (count, 4))
    mixing = ramps.uniform("images", (4, 3 * SIDE * SIDE))
    return noise, np.tanh(noise @ mixing).reshape(count, SIDE, SIDE, 3)


def statistics_of(features, images) -> FeatureStatistics:
    made = FeatureStatistics()
    made.update(keras.ops.convert_to_numpy(features(images)))
    return made


@pytest.fixture(scope="module")
def features():
    return small_features()


def test_the_metric_sums_batches_of_any_size_to_the_distance_of_all(features):
    _, real = data(90)
    generated = 0.7 * real[::-1] + 0.1
    metric = FrechetInceptionDistance(features, WIDTH)
    assert np.isnan(float(metric.result()))
    for start, after in ((0, 1), (1, 50), (50, 90)):
        metric.update_state(real[start:after], generated[start:after])
    both = statistics_of(features, real), statistics_of(features, generated)
    assert float(metric.result()) == pytest.approx(frechet_distance(*both), rel=1e-6)
    assert metric.statistics().count == 90
    np.testing.assert_allclose(metric.statistics("real").covariance, both[0].covariance, rtol=1e-6)
    metric.reset_state()
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize("with_reference", [True, False])
def test_a_generator_is_trained_and_evaluated_with_the_metric(features, with_reference):
    noise, real = data(256)
    reference = statistics_of(features, real) if with_reference else None
    metric = FrechetInceptionDistance(features, WIDTH, reference=reference)
    model = small_generator()
    model.compile(keras.optimizers.Adam(0.02), "mse", metrics=[metric])
    history = model.fit(noise, real, batch_size=32, epochs=6, verbose=0).history["fid"]
    assert len(history) == 6
    assert np.isfinite(history).all()
    assert history[-1] < 0.1 * history[0]
    found = model.evaluate(noise, real, batch_size=50, verbose=0, return_dict=True)["fid"]
    generated = statistics_of(features, model.predict(noise, verbose=0))
    expected = frechet_distance(statistics_of(features, real), generated)
    assert found == pytest.approx(expected, rel=1e-5)


def test_sums_keep_the_digits_of_features_far_from_zero():
    metric = FrechetInceptionDistance(lambda images: images, WIDTH)
    images = np.float32(1000) + ramps.uniform("far", (500, WIDTH))
    images[:, 0] = 0.1  # constant
    for start in range(0, 500, 100):
        metric.update_state(images[start : start + 100], images[start : start + 100])
    expected = statistics_of(lambda given: given, images).covariance
    np.testing.assert_allclose(metric.statistics().covariance, expected, rtol=1e-7, atol=1e-8)
    assert metric.statistics().covariance[0, 0] == 0
    assert abs(float(metric.result())) < 1e-6


def test_a_singular_covariance_is_refused_unless_allowed(features):
    _, real = data(WIDTH)
    for allow in (False, True):
        metric = FrechetInceptionDistance(features, WIDTH, allow_singular=allow)
        metric.update_state(real, real)
        if allow:
            assert abs(float(metric.result())) < 1e-3
        else:
            with pytest.raises(UserError, match="6 images have a singular covariance"):
                metric.result()


def test_weights_and_another_width_are_refused(features):
    _, real = data(4)
    metric = FrechetInceptionDistance(features, WIDTH)
    with pytest.raises(UserError, match="takes no weights"):
        metric.update_state(real, real, sample_weight=np.ones(4))
    with pytest.raises(UserError, match="reference has 6 features and the metric 7"):
        FrechetInceptionDistance(features, 7, reference=statistics_of(features, real))
