# SPDX-License-Identifier: Apache-2.0
"""The pixels that `accelerator.py variants` computes on the card, against the data layer's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.data.augmentation import color
from inception_tf.data.decoding.transforms import CentralCrop, Resize, ToUnit, apply_steps

SOURCE, SIZE = 32, 64


@pytest.fixture(scope="module")
def pixels(root):
    sys.path.insert(0, str(root / "benchmarks"))
    from accelerator_parts import pixels

    yield pixels
    sys.path.remove(str(root / "benchmarks"))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (16, SOURCE, SOURCE, 3), "uint8")


def test_evaluation_prepares_images_as_the_run_does(pixels, images):
    found = pixels.evaluation_images(images, SIZE, 0.875)
    steps = (CentralCrop(0.875), Resize(SIZE), ToUnit())
    expected = [apply_steps(steps, tf.constant(image)) for image in images]
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("draw", [0.0, 0.37, 0.999])
def test_a_crop_is_resized_as_tensorflow_resizes_it_alone(pixels, images, draw):
    draws = np.full((len(images), 4), draw, "float32")
    boxes = [
        np.asarray(part) for part in pixels.crop_boxes(draws, SOURCE, (0.25, 1.0), (0.75, 4 / 3))
    ]
    top, height, left, width = (part.astype(int) for part in boxes)
    rows, columns = (
        pixels.resize_matrix(*part, SIZE, SOURCE)
        for part in ((boxes[0], boxes[1]), (boxes[2], boxes[3]))
    )
    found = pixels.resized(images.astype("float32"), rows, columns)
    for i, image in enumerate(images):
        crop = image[top[i] : top[i] + height[i], left[i] : left[i] + width[i]]
        assert crop.shape[:2] == (height[i], width[i])
        np.testing.assert_allclose(found[i], tf.image.resize(crop, (SIZE, SIZE)), atol=1e-3)


def test_crops_cover_the_area_and_have_the_aspect_ratio_that_were_asked_for(pixels):
    draws = np.random.default_rng(7).random((4000, 4), "float32")
    top, height, left, width = map(
        np.asarray, pixels.crop_boxes(draws, SOURCE, (0.25, 1.0), (0.75, 4 / 3))
    )
    area = height * width / SOURCE**2
    assert (top >= 0).all()
    assert (top + height <= SOURCE).all()
    assert (left >= 0).all()
    assert (left + width <= SOURCE).all()
    assert 0.22 < area.min() < 0.27
    assert area.max() == 1
    assert (width / height).min() > 0.7
    assert (width / height).max() < 1.4
    # TensorFlow's, drawn from 4,000 seeds: mean area 0.56, mean ratio 1.03.
    begin = tf.function(
        lambda seeds: tf.map_fn(
            lambda seed: tf.image.stateless_sample_distorted_bounding_box(
                (SOURCE, SOURCE, 3),
                tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
                seed,
                0.1,
                (0.75, 4 / 3),
                (0.25, 1.0),
            )[1],
            seeds,
            fn_output_signature=tf.int32,
        )
    )(tf.stack([tf.range(4000), tf.range(4000)], 1)).numpy()
    theirs = begin[:, 0] * begin[:, 1] / SOURCE**2
    assert area.mean() == pytest.approx(theirs.mean(), abs=0.02)
    assert (width / height).mean() == pytest.approx((begin[:, 1] / begin[:, 0]).mean(), abs=0.02)


@pytest.mark.parametrize("kind", ["full", "reduced"])
def test_colors_change_as_those_of_the_data_layer(pixels, images, kind, monkeypatch):
    floats = images.astype("float32")
    draws = np.random.default_rng(3).random((len(images), 5)).astype("float32")
    found = pixels.recolored(floats, draws, kind)
    for i, image in enumerate(floats):
        row = draws[i] if kind == "full" else draws[i, [0, 1, 4]]
        monkeypatch.setattr(
            color.tf.random, "stateless_uniform", lambda shape, seed, row=row: tf.constant(row)
        )
        expected = color.COLOR_AUGMENTATIONS[kind]()(tf.constant(image), None)
        np.testing.assert_allclose(found[i], expected, atol=0.02)
    assert len({tuple(np.asarray(x)[0, 0]) for x in found}) > 1


def test_a_flip_is_one_of_the_result(pixels, images):
    from inception_tf.config import Config

    data = Config.parse(
        {"model": {"name": "inception"}, "data": {"photometric": "none"}}, "a test"
    ).data
    draws = np.full((len(images), 10), 0.9, "float32")
    flipped = draws.copy()
    flipped[:, 4] = 0.1
    plain, mirrored = (pixels.training_images(images, d, SIZE, data) for d in (draws, flipped))
    np.testing.assert_allclose(mirrored, np.asarray(plain)[:, :, ::-1], atol=1e-5)
    assert abs(np.asarray(plain)).max() <= 1
