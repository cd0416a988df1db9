# SPDX-License-Identifier: Apache-2.0
"""Color augmentation of pixels in [0, 255], with the ranges of slim's inception_preprocessing.

The operations on saturation and hue are linear in their input, so [0, 255] gives the results of slim's [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from inception_tf.data.augmentation.color_ranges import BRIGHTNESS, CONTRAST, HUE, SATURATION

__all__ = ["COLOR_AUGMENTATIONS", "FullColorAugmentation", "ReducedColorAugmentation"]


@dataclass(frozen=True)
class FullColorAugmentation:
    """Random brightness, saturation, hue and contrast, in a random order: (H, W, 3) float32 in [0, 255], and the same back.

    The orders are slim's four, with which the published networks were trained, rather than all 24: each
    operation still occurs early and late, and the graph has 16 operations instead of 96.  Only the drawn
    order is computed.  Values are clipped once, at the end, as in slim.
    """

    def __call__(self, image, seed):
        draws = tf.random.stateless_uniform((5,), seed)
        steps = _Steps(draws)
        orders = (
            (steps.brightness, steps.saturation, steps.hue, steps.contrast),
            (steps.saturation, steps.brightness, steps.contrast, steps.hue),
            (steps.contrast, steps.hue, steps.brightness, steps.saturation),
            (steps.hue, steps.saturation, steps.contrast, steps.brightness),
        )
        order = tf.cast(draws[4] * len(orders), tf.int32)
        branches = [lambda order=order: _applied(order, image) for order in orders]
        return _clipped(tf.switch_case(order, branches))


@dataclass(frozen=True)
class ReducedColorAugmentation:
    """Random brightness and saturation: (H, W, 3) float32 in [0, 255], and the same back.

    slim's `fast_mode`, its default: brightness first in a quarter of the images, as the first of the four orders that
    slim draws, else saturation.  Ioffe and Szegedy 2015, section 4.2.1, reduce the photometric distortions, without
    numbers, because a network with batch normalization sees each image fewer times.
    """

    def __call__(self, image, seed):
        draws = tf.random.stateless_uniform((3,), seed)
        steps = _Steps(draws)
        orders = ((steps.brightness, steps.saturation), (steps.saturation, steps.brightness))
        branches = [lambda order=order: _applied(order, image) for order in orders]
        return _clipped(tf.cond(draws[2] < 1 / 4, *branches))


# By the values of `data.photometric`.
COLOR_AUGMENTATIONS = {"full": FullColorAugmentation, "reduced": ReducedColorAugmentation}


@dataclass(frozen=True)
class _Steps:
    """The four operations with their strengths from `draws`, numbers in [0, 1)."""

    draws: tf.Tensor

    def brightness(self, image):
        return image + self._between(0, -BRIGHTNESS, BRIGHTNESS)

    def saturation(self, image):
        return tf.image.adjust_saturation(image, self._between(1, *SATURATION))

    def hue(self, image):
        return tf.image.adjust_hue(image, self._between(2, -HUE, HUE))

    def contrast(self, image):
        return tf.image.adjust_contrast(image, self._between(3, *CONTRAST))

    def _between(self, index, low, high):
        return low + (high - low) * self.draws[index]


def _applied(steps, image):
    for step in steps:
        image = step(image)
    return image


def _clipped(image):
    return tf.clip_by_value(image, 0.0, 255.0)
