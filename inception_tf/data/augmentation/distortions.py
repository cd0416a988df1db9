# SPDX-License-Identifier: Apache-2.0
"""Training distortions: small values called with `(image, seed)`, stateless, so a run can be repeated pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.augmentation import model_garden
from inception_tf.data.augmentation.color import PHOTOMETRIC

__all__ = [
    "DistortedBox",
    "Flip",
    "batch_distortions",
    "distort",
    "training_box",
    "training_distortions",
]

BOX_TRIES = 100  # slim inception_preprocessing


@dataclass(frozen=True)
class DistortedBox:
    """(H, W, C) → a random box of it; Szegedy et al. 2014, section 6, as slim's inception_preprocessing."""

    area: tuple[float, float]  # share of the image
    aspect: tuple[float, float]  # width / height

    def sample(self, shape, seed):
        """`shape` (3,) int32, `seed` (2,) int → begin (3,), size (3,) int32, as `tf.slice` takes them: -1 for all channels."""
        whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            bounding_boxes=whole,
            seed=seed,
            min_object_covered=min(0.1, self.area[0]),
            aspect_ratio_range=self.aspect,
            area_range=self.area,
            max_attempts=BOX_TRIES,
        )
        return begin, size

    def __call__(self, image, seed):
        box = tf.slice(image, *self.sample(tf.shape(image), seed))
        box.set_shape((None, None, image.shape[-1]))
        return box


@dataclass(frozen=True)
class Flip:
    """(H, W, C), mirrored left to right in half of the cases."""

    def __call__(self, image, seed):
        return tf.image.stateless_random_flip_left_right(image, seed)


def training_box(config: DataConfig) -> DistortedBox | None:
    """The box to decode of each training image; None where `data.box_area` is null: the whole image."""
    return DistortedBox(config.box_area, config.box_aspect) if config.box_area else None


def training_distortions(config: DataConfig) -> tuple:
    """What a recipe's `data` section asks for between the resize and the scaling, in the order of application.

    Each is called with (S, S, 3) float32 0..255 and a seed (2,) int, and gives the same shape, type
    and range.  `UserError` where one needs the Model Garden and it is not installed.
    """
    flip = (Flip(),) if config.flip else ()
    light = () if config.photometric == "none" else (PHOTOMETRIC[config.photometric](),)
    erasing = (model_garden.RandomErasing(config.random_erasing),) if config.random_erasing else ()
    return (*flip, *light, *_auto_augment(config), *erasing)


def batch_distortions(config: DataConfig, classes: int) -> tuple:
    """Those of whole batches: callables (images (B, S, S, 3) float32, labels (B, classes) one-hot, seed (2,) int).

    Each gives (images, labels) in the same shapes and types, labels as shares that sum to 1.
    `UserError` where the Model Garden is not installed.
    """
    if not (config.mixup_alpha or config.cutmix_alpha):
        return ()
    return (model_garden.MixupAndCutmix(classes, config.mixup_alpha, config.cutmix_alpha),)


def _auto_augment(config: DataConfig) -> tuple:
    if config.auto_augment == "randaugment":
        return (model_garden.RandAugment(config.randaugment_layers, config.randaugment_magnitude),)
    if config.auto_augment == "autoaugment":
        return (model_garden.AutoAugment(config.autoaugment_policy),)
    return ()


def distort(distortions: tuple, image, seed):
    """`distortions` on an image, each with a seed of its own drawn from `seed` (2,) int."""
    if distortions:
        seeds = tf.random.experimental.stateless_split(seed, len(distortions))
        for index, distortion in enumerate(distortions):
            image = distortion(image, seeds[index])
    return image
