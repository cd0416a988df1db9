# SPDX-License-Identifier: Apache-2.0
"""Changes of light and colour, held against slim's formulas on its own scale of 0 to 1."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.config import PHOTOMETRIC as NAMES
from inception_tf.data.augmentation.color import (
    COLOR_AUGMENTATIONS,
    FullColorAugmentation,
    ReducedColorAugmentation,
)

# slim inception_preprocessing.distort_color: its four orders, and those of fast_mode, of which three are the same.
ORDERS = ("bshc", "sbch", "chbs", "hscb")
FAST_ORDERS = ("bs", "sb", "sb", "sb")


@pytest.fixture(scope="module")
def photograph():
    """(24, 32, 3) float32 0..255 with light, dark, gray and coloured parts."""
    y, x, c = np.mgrid[0:24, 0:32, 0:3].astype(np.float32)
    return tf.constant((128 + 127 * np.sin(0.3 * x + c) * np.cos(0.2 * y * (c + 1))).round())


def _many(distortion, image, count=400):
    """(count, H, W, 3), the image distorted from as many seeds."""
    seeds = tf.stack([tf.range(count), tf.range(count) + 7], axis=1)
    graph = tf.function(lambda seeds: tf.map_fn(lambda s: distortion(image, s), seeds, tf.float32))
    return graph(seeds).numpy()


@pytest.fixture(scope="module")
def full(photograph):
    return _many(FullColorAugmentation(), photograph)


@pytest.fixture(scope="module")
def reduced(photograph):
    return _many(ReducedColorAugmentation(), photograph)


def _by_slim(image, order, draws):
    """distort_color in one order, on 0..1, with its draws given as numbers from 0 to 1."""
    steps = {
        "b": lambda x: tf.image.adjust_brightness(x, (2 * draws[0] - 1) * 32 / 255),
        "s": lambda x: tf.image.adjust_saturation(x, 0.5 + draws[1]),
        "h": lambda x: tf.image.adjust_hue(x, (2 * draws[2] - 1) * 0.2),
        "c": lambda x: tf.image.adjust_contrast(x, 0.5 + draws[3]),
    }
    image = image / 255.0
    for letter in order:
        image = steps[letter](image)
    return 255 * tf.clip_by_value(image, 0.0, 1.0).numpy()


def test_the_full_distortion_is_slims_in_each_of_its_four_orders(photograph):
    seen = set()
    for seed in range(12):
        draws = tf.random.stateless_uniform((5,), (seed, 0)).numpy()
        order = ORDERS[int(4 * draws[4])]
        seen.add(order)
        ours = FullColorAugmentation()(photograph, (seed, 0)).numpy()
        # Between two scales float32 rounds differently; a hundredth of a grey level is none.
        np.testing.assert_allclose(ours, _by_slim(photograph, order, draws), atol=0.01)
    assert seen == set(ORDERS)


def test_the_reduced_distortion_is_slims_fast_mode(photograph):
    seen = set()
    for seed in range(8):
        draws = tf.random.stateless_uniform((3,), (seed, 0)).numpy()
        order = FAST_ORDERS[int(4 * draws[2])]
        seen.add(order)
        ours = ReducedColorAugmentation()(photograph, (seed, 0)).numpy()
        np.testing.assert_allclose(ours, _by_slim(photograph, order, draws), atol=0.01)
    assert seen == set(FAST_ORDERS)


@pytest.mark.parametrize("kind", ["full", "reduced"])
def test_pixels_stay_between_0_and_255_and_their_mean_stays_near(kind, photograph, request):
    images = request.getfixturevalue(kind)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 255
    # Brightness moves by at most 32 either way: over 400 seeds the mean moves by a few levels at most.
    assert abs(images.mean() - photograph.numpy().mean()) < 5


@pytest.mark.parametrize("kind", ["full", "reduced"])
def test_each_seed_gives_other_pixels(kind, request):
    images = request.getfixturevalue(kind)
    assert len({image.tobytes() for image in images}) == len(images)


def test_the_reduced_distortion_changes_an_image_less(photograph, full, reduced):
    change = [np.abs(images - photograph.numpy()).mean() for images in (full, reduced)]
    assert 0 < change[1] < 0.7 * change[0]


def test_gray_images_stay_gray():
    gray = tf.tile(tf.random.stateless_uniform((8, 8, 1), (1, 2), 0, 255), (1, 1, 3))
    for seed in range(8):
        image = FullColorAugmentation()(gray, (seed, 0)).numpy()
        np.testing.assert_allclose(image, image[..., :1].repeat(3, axis=-1), atol=1e-3)


def test_every_name_that_a_recipe_may_give_has_its_distortion():
    assert {*COLOR_AUGMENTATIONS, "none"} == set(NAMES)
