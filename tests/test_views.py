# SPDX-License-Identifier: Apache-2.0
"""The pixels that a network sees, against the preprocessing of the projects whose weights it has; views/record.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
import tensorflow as tf

from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import SCALES, Preprocessing
from inception_tf.weights.registry import RELEASES

HERE = Path(__file__).parent / "views"
sys.path.insert(0, str(HERE))

from photographs import photographs, sampled  # noqa: E402

RECORDED = np.load(HERE / "views.npz")
BY_NAME = {f"{release.network}/{release.name}": release.preprocessing for release in RELEASES}


@pytest.fixture(scope="module")
def images():
    return photographs(Path(sklearn.__file__).parent / "datasets/images")


@pytest.mark.parametrize("photograph", ["landscape", "portrait", "large"])
@pytest.mark.parametrize("preprocessing", dict.fromkeys(BY_NAME.values()), ids=str)
def test_a_release_sees_the_pixels_that_its_makers_measured_it_on(
    images, preprocessing, photograph
):
    seen = transforms.apply_steps(transforms.evaluation_steps(preprocessing), images[photograph])
    levels = SCALES[preprocessing.scale].deviation  # for 1 in the network's input
    for name in [name for name, one in BY_NAME.items() if one == preprocessing]:
        theirs = RECORDED[f"{name}/{photograph}"].astype(np.float32)
        difference = np.abs(sampled(seen.numpy()) - theirs) * levels
        assert difference.mean() < 0.5, name  # of 255; torchvision and Pillow round
        assert difference.max() < 4, name


def test_every_release_has_been_recorded():
    assert {key.rpartition("/")[0] for key in RECORDED} == set(BY_NAME)


def test_every_photograph_has_been_recorded(images):
    assert {key.rpartition("/")[2] for key in RECORDED} == set(images)


RULES = {
    "shorter": Preprocessing(32, None, shorter=37, antialias=True),
    "bicubic": Preprocessing(32, None, interpolation="bicubic", shorter=36, antialias=True),
    "tf1": Preprocessing(32, None, shorter=37, half_pixel_centers=False),
    "stored": Preprocessing(32, None, stored=37),
}


@pytest.mark.parametrize("shape", [(50, 71), (71, 50), (9, 200), (300, 40), (1, 1)], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_the_center_is_that_of_the_whole_resized_image(rule, shape):
    """Only the pixels of the crop are computed; they are those of resizing everything and then cropping."""
    preprocessing = RULES[rule]
    image = np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)
    side = preprocessing.shorter or preprocessing.stored
    sides = [side, side] if preprocessing.stored else [side * n / min(shape) for n in shape]
    rounding = np.floor if preprocessing.half_pixel_centers else np.rint
    sides = [int(rounding(n)) for n in sides]
    whole = transforms.resize(tf.constant(image), sides, preprocessing.resampling).numpy()
    center = (np.floor if rule == "tf1" else np.rint)((np.array(sides) - 32) / 2).astype(int)
    top, left = center
    seen = transforms.apply_steps(transforms.evaluation_steps(preprocessing)[:-1], image)
    np.testing.assert_allclose(seen, whole[top : top + 32, left : left + 32], atol=0.1)


def test_a_batch_is_prepared_like_its_images():
    batch = np.random.RandomState(0).randint(0, 256, (2, 40, 55, 3)).astype(np.uint8)
    for preprocessing in (*RULES.values(), Preprocessing(32, half_pixel_centers=False)):
        steps = transforms.evaluation_steps(preprocessing)
        alone = [transforms.apply_steps(steps, image) for image in batch]
        np.testing.assert_allclose(transforms.apply_steps(steps, batch), alone, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_a_very_long_image_needs_no_more_memory_than_a_square_one(rule):
    """Resized whole, this image of 4 million pixels would be 37 x 5,920,000."""
    image = np.zeros((5, 800_000, 3), np.uint8)
    image[:, 399_900:400_100] = 255
    seen = transforms.apply_steps(transforms.evaluation_steps(RULES[rule]), image)
    assert seen.shape == (32, 32, 3)


def test_bicubic_pixels_stay_pixels():
    image = np.kron([[0, 255], [255, 0]], np.ones((8, 8)))[..., None].repeat(3, -1).astype(np.uint8)
    seen = transforms.apply_steps(transforms.evaluation_steps(RULES["bicubic"])[:-1], image)
    assert (seen.numpy().min(), seen.numpy().max()) == (0, 255)
