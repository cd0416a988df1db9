# SPDX-License-Identifier: Apache-2.0
"""The resizes of the tools that compute FID, to the 299 pixels of the network of 2015, each with its own rounding.

TensorFlow's `ScaleAndTranslate` has the same filters, but places them by another rounding: pixels of a large image
would be off by 1e-4 of the range, where these are within 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from inception_tf.data.decoding.transforms import resize
from inception_tf.data.preprocessing import Resampling
from inception_tf.generative.conventions import Resize

__all__ = ["RESIZES", "SIZE", "ResizeLikeTool"]

SIZE = 299  # pixels, height and width of the network's input
TF1 = Resampling(half_pixel_centers=False)
CUBIC = -0.5  # Pillow's a of the cubic filter


@dataclass(frozen=True)
class ResizeLikeTool:
    """Resizing and scaling as one tool does: (..., H, W, 3) in [0, 255] → (..., 299, 299, 3) float32 in [-1, 1].

    Example:

        pixels = ResizeLikeTool(find_convention("clean-fid").resize)(image)
    """

    resize: Resize

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        image = tf.convert_to_tensor(image)
        if image.shape.rank == 4:
            return tf.map_fn(self, image, fn_output_signature=tf.TensorSpec((SIZE, SIZE, 3)))
        resized = RESIZES[self.resize.library, self.resize.antialias]
        if self.resize.unit_range:
            return 2.0 * resized(tf.cast(image, tf.float32) / 255.0) - 1.0
        return (resized(image) - 128.0) / 128.0


def _by_tensorflow(image: tf.Tensor) -> tf.Tensor:
    """TensorFlow 1's `resize_bilinear`, equal to the bit to the graph of 2015 and to torch-fidelity."""
    return resize(image, (SIZE, SIZE), TF1)


def _by_matrices(weights: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A separable resize: columns first, then rows, as torch and Pillow do.

    weights: the length of a side, () int → (299, length) float32.
    """

    def resized(image: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        channels = tf.reshape(tf.transpose(tf.cast(image, tf.float32), (0, 2, 1)), (-1, width))
        narrow = tf.matmul(channels, weights(width), transpose_b=True)
        rows = tf.matmul(weights(height), tf.reshape(narrow, (height, 3 * SIZE)))
        return tf.transpose(tf.reshape(rows, (SIZE, 3, SIZE)), (0, 2, 1))

    return resized


def _two_pixels(length: tf.Tensor) -> tf.Tensor:
    """torch's bilinear weights without antialiasing: of the two pixels around each place."""
    scale = _scale(length, tf.float32)
    # torch multiplies and subtracts in one instruction, which rounds once; so does this.
    wide = tf.cast(scale, tf.float64) * (tf.range(SIZE, dtype=tf.float64) + 0.5) - 0.5
    at = tf.maximum(tf.cast(wide, tf.float32), 0.0)
    lower = tf.minimum(tf.cast(at, tf.int32), length - 1)
    upper = tf.minimum(lower + 1, length - 1)
    fraction = (at - tf.cast(lower, tf.float32))[:, tf.newaxis]
    return (1.0 - fraction) * tf.one_hot(lower, length) + fraction * tf.one_hot(upper, length)


def _filtered(kernel: Callable, reach: float, dtype: tf.DType) -> Callable[[tf.Tensor], tf.Tensor]:
    """Weights of an antialiased filter, in torch's and Pillow's order of operations.

    kernel: distance in pixels of the larger of both images → weight; reach: where it becomes 0.
    """

    def weights(length: tf.Tensor) -> tf.Tensor:
        scale = _scale(length, dtype)
        wider = tf.maximum(scale, 1)
        support = reach * wider
        center = scale * (tf.range(SIZE, dtype=dtype) + 0.5)
        first = tf.maximum(tf.cast(center - support + 0.5, tf.int32), 0)
        after = tf.minimum(tf.cast(center + support + 0.5, tf.int32), length)
        pixels = tf.range(length)[tf.newaxis]
        inside = (pixels >= first[:, tf.newaxis]) & (pixels < after[:, tf.newaxis])
        distance = tf.cast(pixels, dtype) - center[:, tf.newaxis] + 0.5
        found = tf.where(inside, kernel(tf.abs(distance / wider)), tf.zeros((), dtype))
        return tf.cast(found / tf.reduce_sum(found, axis=1, keepdims=True), tf.float32)

    return weights


def _scale(length: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    # In float64 first: TensorFlow turns a division by a constant into a product, which rounds twice.
    return tf.cast(tf.cast(length, tf.float64) / SIZE, dtype)


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1 - x, 0)


def _cubic(x: tf.Tensor) -> tf.Tensor:
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return tf.where(x < 1, near, tf.where(x < 2, far, tf.zeros_like(x)))


_bicubic = _by_matrices(_filtered(_cubic, 2.0, tf.float64))

# Library and antialiasing, as a `Resize` has them → a function of (H, W, 3) pixels to (299, 299, 3) float32.
RESIZES: dict[tuple[str, bool], Callable[[tf.Tensor], tf.Tensor]] = {
    ("tensorflow1", False): _by_tensorflow,
    ("torch", False): _by_matrices(_two_pixels),
    ("torch", True): _by_matrices(_filtered(_triangle, 1.0, tf.float32)),
    # The overshoot of the filter is cut off.
    ("pillow", True): lambda image: tf.clip_by_value(_bicubic(image), 0.0, 255.0),
}
