# SPDX-License-Identifier: Apache-2.0
"""Training distortions: small values called with `(image, seed)`, stateless, so a run can be repeated pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from inception_tf.config import DataConfig

__all__ = ["DistortedBox", "Flip", "distort", "training_distortions"]

BOX_TRIES = 100  # slim inception_preprocessing


@dataclass(frozen=True)
class DistortedBox:
    """(H, W, C) → a random box of it; Szegedy et al. 2014, section 6, as slim's inception_preprocessing."""

    area: tuple[float, float]  # share of the image
    aspect: tuple[float, float]  # width / height

    def __call__(self, image, seed):
        whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image),
            bounding_boxes=whole,
            seed=seed,
            min_object_covered=min(0.1, self.area[0]),
            aspect_ratio_range=self.aspect,
            area_range=self.area,
            max_attempts=BOX_TRIES,
        )
        box = tf.slice(image, begin, size)
        box.set_shape((None, None, image.shape[-1]))
        return box


@dataclass(frozen=True)
class Flip:
    """(H, W, C), mirrored left to right in half of the cases."""

    def __call__(self, image, seed):
        return tf.image.stateless_random_flip_left_right(image, seed)


def training_distortions(config: DataConfig) -> tuple:
    """The distortions that a recipe's `data` section asks for, in the order in which they are applied."""
    box = (DistortedBox(config.box_area, config.box_aspect),) if config.box_area else ()
    return (*box, *((Flip(),) if config.flip else ()))


def distort(distortions: tuple, image, seed):
    """`distortions` on an image, each with a seed of its own drawn from `seed` (2,) int."""
    if distortions:
        seeds = tf.random.experimental.stateless_split(seed, len(distortions))
        for index, distortion in enumerate(distortions):
            image = distortion(image, seeds[index])
    return image
