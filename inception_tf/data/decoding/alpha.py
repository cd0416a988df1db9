# SPDX-License-Identifier: Apache-2.0
"""Transparent images on a white background: the color hidden under a transparent pixel is not seen."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["BACKGROUND", "composite"]

BACKGROUND = 255  # of every channel: white, as paper, and as a browser shows such an image
LARGE = 1 << 24  # values; a larger image is composited row by row, which needs less memory


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
            lambda: tf.map_fn(
                _blend,
                image,
                fn_output_signature=tf.TensorSpec((None, 3), tf.uint8),
                parallel_iterations=1,
            ),
            lambda: _blend(image),
        )

    return tf.cond(tf.shape(image)[-1] == 4, on_background, lambda: image[..., :3])


def _blend(image):
    color, alpha = (tf.cast(part, tf.uint16) for part in (image[..., :3], image[..., 3:4]))
    # At most 255 * 255 + 128: within 16 bits.  The last lines divide by 255, rounded to the nearest.
    total = color * alpha + BACKGROUND * (255 - alpha) + 128
    eight = tf.constant(8, tf.uint16)
    shifted = tf.bitwise.right_shift(total, eight)
    return tf.cast(tf.bitwise.right_shift(total + shifted, eight), tf.uint8)
