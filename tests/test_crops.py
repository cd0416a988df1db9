# SPDX-License-Identifier: Apache-2.0
"""The 10 and the 144 crops against the papers' descriptions, pixel by pixel."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import BILINEAR, Preprocessing, Resampling
from inception_tf.evaluation.crops import GoogLeNetCrops, TenCrops, crop_steps


def _image(height, width):
    """Pixels that say where they are: (row, column, 0)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, np.zeros_like(rows)), -1).astype(np.float32)


def _middle(crop):
    return crop[:, :, :2].reshape(-1, 2).mean(axis=0)


def test_ten_crops_of_an_image_at_its_size_are_its_corners_and_centre_and_these_mirrored():
    image = _image(256, 256)
    crops = TenCrops(224)(tf.constant(image)).numpy()
    expected = [image[y : y + 224, x : x + 224] for y, x in ((0, 0), (0, 32), (32, 0), (32, 32))]
    expected.append(image[16:240, 16:240])
    np.testing.assert_allclose(crops[:5], expected, atol=1e-3)
    np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])


def test_ten_crops_of_a_wide_image_come_from_its_central_square():
    crops = TenCrops(224)(tf.constant(_image(256, 512))).numpy()
    np.testing.assert_allclose(_middle(crops[4]), (127.5, 127.5 + 128), atol=1e-2)
    assert crops[..., 1].min() >= 128
    assert crops[..., 1].max() <= 128 + 255


@pytest.mark.parametrize(("height", "width"), [(352, 500), (500, 352)])
def test_144_crops_are_those_of_the_paper(height, width):
    """At the scale 352 nothing is resized, so the crops can be cut out by hand."""
    image = _image(height, width)
    crops = GoogLeNetCrops(224)(tf.constant(image)).numpy()
    assert crops.shape == (144, 224, 224, 3)
    plain = crops[:72].reshape(4, 3, 6, 224, 224, 3)
    for square, begin in enumerate((0, 74, 148)):
        own = image[:, begin : begin + 352] if width > height else image[begin : begin + 352]
        places = ((0, 0), (0, 128), (128, 0), (128, 128), (64, 64))
        cut = [own[y : y + 224, x : x + 224] for y, x in places]
        np.testing.assert_allclose(plain[3, square, :5], cut, atol=1e-3)
        for scale in range(4):
            np.testing.assert_allclose(_middle(plain[scale, square, 4]), _middle(own), atol=1)
            np.testing.assert_allclose(_middle(plain[scale, square, 5]), _middle(own), atol=1)
    np.testing.assert_array_equal(crops[72:], crops[:72, :, ::-1])


@functools.cache
def _traced_once(crops):
    return tf.function(crops, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])


@pytest.mark.parametrize(
    ("shape", "distinct"), [((300, 451), 144), ((397, 260), 144), ((256, 256), 48)]
)
@pytest.mark.parametrize("resampling", [BILINEAR, Resampling(half_pixel_centers=False)], ids=str)
def test_the_144_crops_are_distinct_and_48_of_a_square_image_are(shape, distinct, resampling):
    image = np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)
    crops = _traced_once(GoogLeNetCrops(56, resampling))(tf.constant(image)).numpy()
    assert crops.shape == (144, 56, 56, 3)
    apart = np.abs(crops[:, None, ::5, ::5] - crops[None, :, ::5, ::5]).max(axis=(2, 3, 4))
    assert len(np.unique(apart < 0.5, axis=0)) == distinct


@pytest.mark.parametrize("shape", [(300, 451), (397, 260), (150, 190)])
def test_144_crops_are_those_that_pillow_cuts_in_the_papers_order(shape):
    image = np.random.RandomState(1).randint(0, 256, (*shape, 3)).astype(np.uint8)
    image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2)))
    cut = GoogLeNetCrops(224, Resampling(antialias=True))(tf.constant(image)).numpy()
    expected = []
    for side in (256, 288, 320, 352):
        height, width = (side * n // min(shape) for n in shape)
        scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        for place in (0, 0.5, 1):
            top, left = round((height - side) * place), round((width - side) * place)
            square = scaled.crop((left, top, left + side, top + side))
            end = side - 224
            for y, x in ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2)):
                expected.append(square.crop((x, y, x + 224, y + 224)))
            expected.append(square.resize((224, 224), Image.Resampling.BILINEAR))
    expected += [crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for crop in expected]
    for number, (ours, theirs) in enumerate(zip(cut, expected, strict=True)):
        difference = np.abs(ours - np.asarray(theirs, np.float32))
        assert difference.max() < 2.1, number  # Pillow rounds to whole levels, twice


def test_scales_show_less_and_less_of_a_square():
    image = _image(400, 400)
    plain = GoogLeNetCrops(224)(tf.constant(image)).numpy()[:72].reshape(4, 3, 6, 224, 224, 3)
    shown = [np.ptp(plain[scale, 0, 0, :, :, 0]) for scale in range(4)]
    np.testing.assert_allclose(shown, [400 * 224 / s for s in (256, 288, 320, 352)], atol=4)
    np.testing.assert_allclose(np.ptp(plain[0, 0, 5, :, :, 0]), 399, atol=2)


def test_other_sizes_scale_the_papers_numbers():
    assert TenCrops(299)(tf.zeros((50, 50, 3))).shape == (10, 299, 299, 3)
    crops = GoogLeNetCrops(112)(tf.constant(_image(176, 176))).numpy()
    np.testing.assert_allclose(crops[54, ..., :2], _image(176, 176)[:112, :112, :2], atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (3, 3), (1, 1)])
@pytest.mark.parametrize("crops", [10, 144])
def test_small_and_narrow_images_are_enlarged(shape, crops):
    steps = crop_steps(Preprocessing(32), crops)
    assert transforms.apply_steps(steps, tf.zeros((*shape, 3), tf.uint8)).shape == (
        crops,
        32,
        32,
        3,
    )


def test_crops_are_scaled_as_the_weights_want_them():
    gray = tf.fill((64, 64, 3), tf.constant(10, tf.uint8))
    seen = transforms.apply_steps(crop_steps(Preprocessing(32, scale="caffe"), 10), gray)
    np.testing.assert_allclose(seen[3, 0, 0], [10 - 104, 10 - 117, 10 - 123], atol=1e-3)


def test_one_crop_is_the_centre_as_the_view_cuts_it():
    preprocessing = Preprocessing(32, 0.5)
    assert crop_steps(preprocessing, 1) == transforms.evaluation_steps(preprocessing)
