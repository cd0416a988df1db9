# SPDX-License-Identifier: Apache-2.0
"""The header of an encoded image, as TensorFlow operations that do not fail on a truncated one.

Few operations: the functions that read images are traced and optimized again in every pass over a data set.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["PLACES", "Header", "Start", "make_header", "read_start"]

START = 128  # bytes
PLACES = 8  # numbers that a format's decoder may need


class Start(NamedTuple):
    """The first bytes of a file as unsigned integers of 32 bits, one from each offset; zeros after its end."""

    little: tf.Tensor  # (START,) int64, the lowest byte first

    def fields(self, *places: tuple[int, int]) -> list[tf.Tensor]:
        """Integers of up to four bytes, the lowest first, each () int64; places: offsets and sizes."""
        offsets, sizes = zip(*places, strict=True)
        masks = tf.constant([(1 << 8 * size) - 1 for size in sizes], tf.int64)
        return tf.unstack(tf.bitwise.bitwise_and(tf.gather(self.little, offsets), masks))


class Header(NamedTuple):
    """What the header of an encoded image says."""

    status: tf.Tensor  # () string: `ok`, or why the image is not read
    height: tf.Tensor  # () int64, pixels as stored
    width: tf.Tensor  # () int64
    places: tf.Tensor  # (PLACES,) int32, what a format's decoder needs
    kind: tf.Tensor  # () int32, the format
    start: Start


def read_start(data: tf.Tensor) -> Start:
    """Read the first bytes of a file.

    Args:
        data: () string.

    Returns:
        Its fields.
    """
    size = tf.minimum(tf.strings.length(data), START)
    content = tf.io.decode_raw(tf.strings.substr(data, 0, size), tf.uint8)
    content = tf.pad(tf.cast(content, tf.int64), ((0, START + 3 - size),))
    columns = tf.stack([content[place : START + place] for place in range(4)])
    weights = tf.constant([[1], [1 << 8], [1 << 16], [1 << 24]], tf.int64)
    return Start(tf.reduce_sum(columns * weights, 0))


def make_header(
    status: tf.Tensor | str,
    height: tf.Tensor | int = 0,
    width: tf.Tensor | int = 0,
    places: tuple[tf.Tensor, ...] = (),
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The first four parts of a `Header`.

    Args:
        status: () string.
        height: () int. Pixels.
        width: () int. Pixels.
        places: () ints, up to `PLACES`.

    Returns:
        status, height, width and places.
    """
    numbers = [tf.cast(place, tf.int32) for place in places]
    return (
        tf.convert_to_tensor(status),
        tf.cast(height, tf.int64),
        tf.cast(width, tf.int64),
        tf.stack([*numbers, *[0] * (PLACES - len(numbers))])
        if numbers
        else tf.zeros(PLACES, tf.int32),
    )
