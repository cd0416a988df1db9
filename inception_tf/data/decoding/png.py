# SPDX-License-Identifier: Apache-2.0
"""PNG images: header, chunks, transparency, 16 bits."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding.fields import Header, Start, make_header
from inception_tf.data.skipped import DAMAGED, OK

__all__ = ["MAGIC", "decode", "read_header"]

MAGIC = b"\x89PNG\r\n\x1a\n"
CHUNK = 12  # bytes of a chunk around its content: length, name, checksum
LAST, EXIF, TRANSPARENCY = (int.from_bytes(name, "big") for name in (b"IEND", b"eXIf", b"tRNS"))
ALPHA = 4  # in the color type of IHDR


def read_header(data: tf.Tensor, start: Start) -> tuple[tf.Tensor, ...]:
    """Read the size and walk through the chunks of a PNG.

    Args:
        data: () string, which begins with `MAGIC`.
        start: Its first bytes.

    Returns:
        What `make_header` returns; places: where EXIF's content begins, whether there is transparency, bits.
    """
    is_whole, tiff, has_transparency = _walk(data)
    # PNG specification, IHDR: width and height at 16 and 20, highest byte first, then bits per sample and color type.
    *sides, bits, color = start.fields(*((place, 1) for place in range(16, 24)), (24, 1), (25, 1))
    weights = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    width, height = tf.unstack(tf.reduce_sum(tf.reshape(sides, (2, 4)) * weights, 1))
    has_alpha = tf.bitwise.bitwise_and(color, ALPHA) > 0
    return make_header(
        tf.where(is_whole, OK, DAMAGED), height, width, (tiff, has_transparency | has_alpha, bits)
    )


def decode(data: tf.Tensor, header: Header, bits: int = 16) -> tf.Tensor:
    """Decode a PNG.

    Args:
        data: () string.
        header: Its header.
        bits: int. Bits that samples of 16 bits use.

    Returns:
        (H, W, 3) uint8, or (H, W, 4) with alpha.
    """
    _, has_alpha, depth = tf.unstack(header.places[:3])

    def decoded(channels):
        if bits == 16:  # libpng keeps the high byte
            return tf.image.decode_png(data, channels=channels)
        return tf.cond(
            tf.equal(depth, 16),
            lambda: _scaled(tf.image.decode_png(data, channels=channels, dtype=tf.uint16), bits),
            lambda: tf.image.decode_png(data, channels=channels),
        )

    return tf.cond(has_alpha > 0, lambda: decoded(4), lambda: decoded(3))


def _scaled(image: tf.Tensor, bits: int) -> tf.Tensor:
    high = tf.bitwise.right_shift(image, tf.constant(bits - 8, tf.uint16))
    return tf.cast(tf.minimum(high, 255), tf.uint8)


def _walk(data):
    """Whether every chunk ends within the file, the offset of EXIF, and whether there is a chunk of transparency.

    libpng allocates the length that a chunk states, up to 2 GB.
    """
    end = tf.strings.length(data)

    def is_chunk(offset, tiff, transparency):
        return (offset >= 0) & (offset + CHUNK <= end)

    def next_chunk(offset, tiff, transparency):
        head = tf.io.decode_raw(tf.strings.substr(data, offset, 8), tf.int32, little_endian=False)
        length, kind = head[0], head[1]
        fits = (length >= 0) & (length <= end - offset - CHUNK)
        # Bytes after the last chunk are ignored.
        after = tf.where(tf.equal(kind, LAST), end, offset + CHUNK + length)
        tiff = tf.where(tf.equal(kind, EXIF), offset + 8, tiff)
        return tf.where(fits, after, -1), tiff, transparency | tf.equal(kind, TRANSPARENCY)

    start = (tf.constant(len(MAGIC)), tf.constant(0), tf.constant(False))
    offset, tiff, transparency = tf.while_loop(is_chunk, next_chunk, start)
    return offset >= 0, tiff, transparency
