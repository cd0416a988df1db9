# SPDX-License-Identifier: Apache-2.0
"""Transparent images on a white background: the color hidden under a transparent pixel is not seen."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding.prepared import prepared_when_called

__all__ = ["BACKGROUND", "composite"]

BACKGROUND = 255  # of every channel: white, as paper, and as a browser shows such an image
LARGE = 1 << 24  # values; a larger image is composited strip by strip, which needs less memory
STRIP = 1 << 18  # pixels; not rows, of which a narrow image has a million


def composite(image: tf.Tensor) -> tf.Tensor:
    """Composite an image on the background.

    Args:
        image: (H, W, 4) uint8, with straight alpha, or (H, W, 3), which stays.

    Returns:
        (H, W, 3) uint8.
    """

    def on_background():
        return tf.cond(
            tf.size(image) > LARGE,
            lambda: _blend_strips(image),
            lambda: _blend(image),
        )

    has_alpha = tf.shape(image)[-1] == 4
    return tf.cond(has_alpha, prepared_when_called(on_background), lambda: image[..., :3])


def _blend_strips(image):
    pixels = tf.reshape(image, (-1, 4))
    count = (tf.shape(pixels)[0] + STRIP - 1) // STRIP
    strips = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=(None, 3))

    def next_strip(number, strips):
        strip = _blend(pixels[number * STRIP : (number + 1) * STRIP])
        return number + 1, strips.write(number, strip)

    _, strips = tf.while_loop(
        lambda number, _: number < count,
        next_strip,
        (tf.constant(0), strips),
        parallel_iterations=1,
    )
    return tf.reshape(strips.concat(), tf.concat((tf.shape(image)[:2], (3,)), 0))


def _blend(image):
    color, alpha = (tf.cast(part, tf.uint16) for part in (image[..., :3], image[..., 3:4]))
    # At most 255 * 255 + 128: within 16 bits.  The last lines divide by 255, rounded to the nearest.
    total = color * alpha + BACKGROUND * (255 - alpha) + 128
    eight = tf.constant(8, tf.uint16)
    shifted = tf.bitwise.right_shift(total, eight)
    return tf.cast(tf.bitwise.right_shift(total + shifted, eight), tf.uint8)
