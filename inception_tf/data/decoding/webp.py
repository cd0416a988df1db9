# SPDX-License-Identifier: Apache-2.0
"""Still WebP images."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding.fields import Start, make_header
from inception_tf.data.skipped import DAMAGED, OK

__all__ = ["ANIMATED", "decode", "read_header"]

ANIMATED = "an animated WebP, which is not read; save one frame of it as WebP, PNG or JPEG"
ANIMATION = 2  # in the flags of VP8X
KINDS = [int.from_bytes(name, "little") for name in (b"VP8X", b"VP8L", b"VP8 ")]
SIDE = 0x3FFF  # the bits of a side in VP8 and VP8L
EXIF = int.from_bytes(b"EXIF", "little")
CHUNKS = 64  # the most that are searched for EXIF, which comes after the pixels


def read_header(data: tf.Tensor, start: Start) -> tuple[tf.Tensor, ...]:
    """Read the first chunk of a WebP, and find its EXIF.

    Args:
        data: () string.
        start: Its first bytes.

    Returns:
        What `make_header` returns; places: where EXIF's content begins.
    """
    # RFC 9649, sections 2.4 to 2.7.
    kind, flags, *sides = start.fields(
        (12, 4), (20, 1), (27, 3), (24, 3), (21, 4), (28, 2), (26, 2)
    )
    is_kind = tf.equal(kind, KINDS)
    is_animated = is_kind[0] & (tf.bitwise.bitwise_and(flags, ANIMATION) > 0)
    # Of each kind height and width, less 1 but for the oldest.
    extended = (sides[0] + 1, sides[1] + 1)
    lossless = (sides[2] // (SIDE + 1) % (SIDE + 1) + 1, sides[2] % (SIDE + 1) + 1)
    lossy = (sides[3] % (SIDE + 1), sides[4] % (SIDE + 1))
    chosen = tf.stack((extended, lossless, lossy))[tf.argmax(tf.cast(is_kind, tf.int32))]
    status = tf.where(tf.reduce_any(is_kind), tf.where(is_animated, ANIMATED, OK), DAMAGED)
    return make_header(status, chosen[0], chosen[1], (_find_exif(data, is_kind[0]),))


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decode a WebP whose status is `ok`.

    Args:
        data: () string.

    Returns:
        (H, W, 3) uint8, or (H, W, 4) with alpha.
    """
    return tf.io.decode_webp(data)[0]  # of (1, H, W, C)


def _find_exif(data, is_extended):
    """The offset of the EXIF chunk's content; 0 if there is none."""
    end = tf.where(is_extended, tf.strings.length(data), 0)

    def is_chunk(offset, tiff, count):
        return (offset >= 0) & (offset + 8 < end) & (tiff == 0) & (count < CHUNKS)

    def next_chunk(offset, tiff, count):
        head = tf.io.decode_raw(tf.strings.substr(data, offset, 8), tf.int32)
        size = head[1]  # negative from 2 GB on, which ends the search
        after = tf.where(size < 0, -1, offset + 8 + size + size % 2)
        return after, tf.where(tf.equal(head[0], EXIF), offset + 8, tiff), count + 1

    start = (tf.constant(12), tf.constant(0), tf.constant(0))
    return tf.while_loop(is_chunk, next_chunk, start)[1]
