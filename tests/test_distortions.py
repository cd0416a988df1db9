# SPDX-License-Identifier: Apache-2.0
"""The distorted box, the flip, and which distortions a recipe's words ask for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.augmentation import distortions
from inception_tf.data.augmentation.distortions import Flip, RandomResizedCrop

SLIM_BOX = RandomResizedCrop((0.05, 1.0), (0.75, 1.33))


def _boxes(box, shape, count=2000):
    """(count, 4): top, left, height and width of as many boxes."""
    seeds = tf.stack([tf.range(count), tf.range(count)], axis=1)

    def one(seed):
        begin, size = box.sample(shape, seed)
        return tf.concat([begin[:2], size[:2]], axis=0)

    graph = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.int32))
    return graph(seeds).numpy()


@pytest.mark.parametrize("shape", [(375, 500, 3), (500, 333, 3)])
def test_boxes_keep_to_slims_range_of_area_and_aspect_and_use_all_of_it(shape):
    top, left, height, width = _boxes(SLIM_BOX, tf.constant(shape)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= shape[0]).all()
    assert (left + width <= shape[1]).all()
    area, aspect = height * width / (shape[0] * shape[1]), width / height
    # Sides are whole pixels, of 80 at least: one more or less is 2.5 % of an area.
    assert area.min() > 0.05 * 0.975
    assert area.min() < 0.1
    assert area.max() > 0.7
    assert aspect.min() > 0.75 * 0.98
    assert aspect.min() < 0.78
    assert aspect.max() < 1.33 * 1.02
    assert aspect.max() > 1.3


def test_boxes_lie_left_and_right_alike():
    _, left, _, width = _boxes(SLIM_BOX, tf.constant((375, 500, 3))).T
    # The centres of 2,000 boxes: their mean deviates by about 1.5 pixels.
    assert abs((left + width / 2).mean() - 250) < 8


def test_a_box_of_pixels_is_the_box_that_was_sampled():
    image = tf.reshape(tf.range(40 * 30 * 3), (40, 30, 3))
    begin, size = SLIM_BOX.sample(tf.shape(image), (3, 4))
    assert (begin[2], size[2]) == (0, -1)  # all channels, in tf.slice's words
    assert (SLIM_BOX(image, (3, 4)) == tf.slice(image, begin, size)).numpy().all()


def test_half_of_the_images_are_mirrored():
    image = tf.reshape(tf.range(2 * 3 * 3, dtype=tf.float32), (2, 3, 3))
    flipped = 0
    for seed in range(200):
        result = Flip()(image, (seed, 1)).numpy()
        mirrored = np.array_equal(result, image[:, ::-1])
        assert mirrored or np.array_equal(result, image)
        flipped += mirrored
    assert 75 < flipped < 125  # 100, deviation 7


def test_without_a_box_area_the_whole_image_is_taken():
    assert distortions.training_crop(DataConfig(box_area=None)) is None
    assert distortions.training_crop(DataConfig(box_area=(0.5, 1.0))).area == (0.5, 1.0)


def test_distortions_come_in_the_order_flip_light_policy_erasing():
    config = DataConfig(photometric="full", auto_augment="randaugment", random_erasing=0.25)
    names = [type(distortion).__name__ for distortion in distortions.training_distortions(config)]
    assert names == ["Flip", "FullColorAugmentation", "RandAugment", "RandomErasing"]


@pytest.mark.parametrize(
    ("config", "printed"),
    [
        (DataConfig(flip=False), "()"),
        (DataConfig(flip=False, photometric="reduced"), "(ReducedColorAugmentation(),)"),
        (
            DataConfig(flip=False, auto_augment="autoaugment", autoaugment_policy="svhn"),
            "(AutoAugment(policy='svhn'),)",
        ),
        (
            DataConfig(flip=False, auto_augment="randaugment", randaugment_magnitude=5.0),
            "(RandAugment(layers=2, magnitude=5.0),)",
        ),
    ],
)
def test_a_recipes_words_become_distortions_that_one_can_read(config, printed):
    assert str(distortions.training_distortions(config)) == printed


def test_batches_are_mixed_only_where_an_alpha_is_given():
    assert distortions.batch_distortions(DataConfig()) == ()
    (mix,) = distortions.batch_distortions(DataConfig(mixup_alpha=0.2))
    assert (mix.mixup_alpha, mix.cutmix_alpha) == (0.2, 0)


def test_two_distortions_of_one_image_draw_from_two_seeds():
    seen = []
    distortions.distort((lambda x, seed: seen.append(tuple(seed.numpy())) or x,) * 2, 0, (1, 2))
    assert len(set(seen)) == 2
