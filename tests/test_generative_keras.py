# SPDX-License-Identifier: Apache-2.0
"""FID in Keras: the metric while a generator is trained and evaluated, and the callback."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf import UserError
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.generative import (
    FID,
    FeatureStatistics,
    FrechetInceptionDistance,
    InceptionFeatures,
    compute,
    frechet_distance,
)
from inception_tf.generative.network import open_weights_for_features
from inception_tf.weights.metadata import WeightsMetadata, write_metadata

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("inception_v3",)
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


@pytest.mark.parametrize("with_reference", [pytest.param(True, marks=pytest.mark.slow), False])
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


# The callback, and the features of Inception in a graph


NARROW = {"last_pool": "max", "width_multiplier": 0.1}
TAP, TAP_WIDTH = "64", 16  # of the narrow network


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A narrow network of the form of 2015."""
    path = tmp_path_factory.mktemp("weights") / "narrow.weights.h5"
    model = inception_tf.InceptionV3(classes=1008, input_shape=(299, 299, 3), **NARROW)
    ramps.fill(model)
    model.save_weights(path)
    view = Preprocessing(299, None, "fid", half_pixel_centers=False)
    write_metadata(path, WeightsMetadata("inception_v3", NARROW, view))
    return open_weights_for_features(str(path))


def callback(opened, *given, **options) -> FID:
    options = {"images": 40, "value_range": (-1, 1), "batch_size": 16, "tap": TAP} | options
    return FID(*given, weights=opened, **options)


class Generator(keras.Model):
    """Learns to make images from noise, with a method that makes some."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_generator()

    def call(self, noise):
        return self.network(noise)

    def generate(self, count: int):
        return self.network(data(count)[0])


@pytest.fixture(scope="module")
def real_images():
    return data(60)[1]


def test_fit_reports_fid_every_second_epoch_and_it_falls(opened, real_images, tmp_path):
    measure = callback(opened, real_images, every=2)
    table = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5",
        monitor="fid",
        mode="min",
        save_best_only=True,
        save_weights_only=True,
    )
    model = Generator()
    model.compile(keras.optimizers.Adam(0.02), "mse")
    history = model.fit(
        *data(96), batch_size=32, epochs=5, verbose=0, callbacks=[measure, table, best]
    ).history["fid"]
    assert np.isfinite(history).tolist() == [False, True, False, True, False]
    assert history[3] < history[1]
    assert (tmp_path / "best.weights.h5").exists()
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert float(rows[4].split(",")[1]) == pytest.approx(history[3], rel=1e-5)
    # What `inception-tf fid` computes of the same images.
    generated = np.concatenate([model.generate(count) for count in (16, 16, 8)])
    images = [np.rint((one + 1) * 127.5).astype(np.uint8) for one in (generated, real_images)]
    expected = compute(*images, features=TAP, opened=opened, batch_size=16, cache=False).fid
    assert measure.compute() == pytest.approx(expected, rel=1e-6)


def test_the_reference_is_images_or_statistics_or_their_file(opened, real_images, tmp_path):
    of_images = callback(opened, real_images).reference
    of_images.write(tmp_path / "real.npz")
    assert of_images.notes.tap == TAP
    for given in (of_images, str(tmp_path / "real.npz")):
        np.testing.assert_array_equal(callback(opened, given).reference.mean, of_images.mean)


def test_another_tool_in_the_notes_is_said(opened, real_images, caplog):
    reference = callback(opened, real_images).reference
    callback(opened, reference, like="clean-fid")
    assert "the tool is clean-fid and torch-fidelity" in caplog.text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"images": 1}, "images must be at least 2, got 1"),
        ({"images": TAP_WIDTH}, "FID of 16 features needs more images"),
        ({"like": "cleanfid"}, "unknown tool 'cleanfid'"),
        ({"tap": "192"}, "the reference has 16 features, and tap 192 has"),
        ({"value_range": (0, 2)}, "value_range must be"),
    ],
)
def test_a_callback_that_could_not_measure_is_refused_before_training(
    opened, real_images, options, sentence
):
    given = callback(opened, real_images).reference if "tap" in options else real_images
    with pytest.raises(UserError, match=sentence):
        callback(opened, given, **options)


def test_a_model_that_generates_nothing_or_too_little_is_refused(opened, real_images):
    reference = callback(opened, real_images).reference
    model = small_generator()
    model.compile(loss="mse")
    with pytest.raises(UserError, match=r"no method generate\(count\)"):
        model.fit(*data(8), verbose=0, callbacks=[callback(opened, reference)])
    for short in (lambda count: real_images[: count - 1], lambda count: real_images[:0]):
        with pytest.raises(UserError, match=r"generate\(16\) gave (15|0) images"):
            callback(opened, reference, short).compute()


def test_the_metric_with_inception_gives_the_distance_of_the_callback(opened, real_images):
    noise = data(40)[0]
    images = InceptionFeatures(opened, tap=TAP, value_range=(-1, 1))
    assert images.width == TAP_WIDTH
    reference = callback(opened, real_images).reference
    assert images.notes == reference.notes
    metric = FrechetInceptionDistance(images, images.width, reference=reference)
    model = Generator()
    model.compile(loss="mse", metrics=[metric])
    assert not keras.ops.convert_to_numpy(model(noise)).any()  # gray
    found = model.evaluate(*data(40), batch_size=16, verbose=0, return_dict=True)["fid"]
    assert found == pytest.approx(callback(opened, reference, model.generate).compute(), rel=1e-4)


def test_images_without_a_known_range_are_refused(opened, real_images):
    images = InceptionFeatures(opened, tap=TAP)
    assert images((real_images[:2] * 100 + 100).astype(np.uint8)).shape == (2, TAP_WIDTH)
    with pytest.raises(UserError, match="need their range"):
        images(real_images[:2])
    with pytest.raises(UserError, match="unknown tap '65'"):
        InceptionFeatures(opened, tap="65")
    with pytest.raises(UserError, match="lowest, highest"):
        InceptionFeatures(opened, tap=TAP, value_range=(1, 0))
