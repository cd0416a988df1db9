# SPDX-License-Identifier: Apache-2.0
"""Distortions of light and colour, on pixels from 0 to 255, as slim's inception_preprocessing draws them.

The kernels that turn saturation and hue scale with their input, so 0..255 gives what slim has on 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

__all__ = ["PHOTOMETRIC", "FullPhotometric", "ReducedPhotometric"]

# slim inception_preprocessing.distort_color
BRIGHTNESS = 32.0  # added, of 255, at most
SATURATION = (0.5, 1.5)  # factor on HSV's S
HUE = 0.2  # turn of HSV's H, of a full circle, at most
CONTRAST = (0.5, 1.5)  # factor on the distance from each channel's mean


@dataclass(frozen=True)
class FullPhotometric:
    """(H, W, 3) float32 0..255 → the same with brightness, saturation, hue and contrast changed in a random order.

    The four orders are slim's, in which the published networks were trained, not all 24: each step
    still comes early and late, and a graph holds 16 steps in place of 96.  Only the drawn order is
    computed.  Values are clipped once, at the end, as in slim.
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
class ReducedPhotometric:
    """(H, W, 3) float32 0..255 → the same with brightness, then saturation, changed: less than `FullPhotometric`.

    Ioffe, Szegedy 2015, section 4.2.1, reduce the photometric distortions, without numbers, since a
    network with batch normalization sees each image fewer times.  Here that is slim's `fast_mode`:
    the same ranges for brightness and saturation, no hue and no contrast, in one order.
    """

    def __call__(self, image, seed):
        steps = _Steps(tf.random.stateless_uniform((2,), seed))
        return _clipped(_applied((steps.brightness, steps.saturation), image))


# By the name that `data.photometric` gives them.
PHOTOMETRIC = {"full": FullPhotometric, "reduced": ReducedPhotometric}


@dataclass(frozen=True)
class _Steps:
    """The four steps with their strengths taken from `draws`, numbers from 0 to 1."""

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
