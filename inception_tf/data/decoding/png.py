# SPDX-License-Identifier: Apache-2.0
"""PNG images: header, chunks, transparency, 16 bits."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding import work
from inception_tf.data.decoding.fields import Header, Start, make_header
from inception_tf.data.skipped import DAMAGED, OK

__all__ = ["MAGIC", "decode", "read_header"]

MAGIC = b"\x89PNG\r\n\x1a\n"
CHUNK = 12  # bytes of a chunk around its content: length, name, checksum
LAST, EXIF, TRANSPARENCY = (int.from_bytes(name, "big") for name in (b"IEND", b"eXIf", b"tRNS"))
COMPRESSED = [int.from_bytes(name, "big") for name in (b"zTXt", b"iTXt", b"iCCP")]
ALPHA = 4  # in the color type of IHDR


def read_header(data: tf.Tensor, start: Start, pixel_limit: int) -> tuple[tf.Tensor, ...]:
    """Read the size and walk through the chunks of a PNG.

    Args:
        data: () string, which begins with `MAGIC`.
        start: Its first bytes.
        pixel_limit: int. The chunks of an image with more pixels, which is not read, are not looked at.

    Returns:
        What `make_header` returns; places: where EXIF's content begins, whether there is transparency, bits.
    """
    # PNG specification, IHDR: width and height at 16 and 20, highest byte first, then bits per sample and color type.
    *sides, bits, color = start.fields(*((place, 1) for place in range(16, 24)), (24, 1), (25, 1))
    weights = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    width, height = tf.unstack(tf.reduce_sum(tf.reshape(sides, (2, 4)) * weights, 1))
    has_alpha = tf.bitwise.bitwise_and(color, ALPHA) > 0
    limit = tf.where(height * width <= pixel_limit, work.chunk_limit(height, width), 0)
    status, tiff, has_transparency = _walk(data, tf.cast(limit, tf.int32))
    return make_header(status, height, width, (tiff, has_transparency | has_alpha, bits))


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


def _walk(data, limit):
    """The status, the offset of EXIF, and whether there is a chunk of transparency.

    Every chunk has to end within the file: libpng allocates the length that a chunk states, up to 2 GB.
    """
    end = tf.strings.length(data)

    def is_chunk(offset, tiff, transparency, text, count):
        return (offset >= 0) & (offset + CHUNK <= end) & (count <= limit)

    def next_chunk(offset, tiff, transparency, text, count):
        head = tf.io.decode_raw(tf.strings.substr(data, offset, 8), tf.int32, little_endian=False)
        length, kind = head[0], head[1]
        fits = (length >= 0) & (length <= end - offset - CHUNK)
        # Bytes after the last chunk are ignored.
        after = tf.where(tf.equal(kind, LAST), end, offset + CHUNK + length)
        tiff = tf.where(tf.equal(kind, EXIF), offset + 8, tiff)
        # Capped above, so that the sum stays within 32 bits.
        packed = tf.where(
            tf.reduce_any(tf.equal(kind, COMPRESSED)), tf.minimum(length, work.TEXT_OF_CHUNK), 0
        )
        return (
            tf.where(fits, after, -1),
            tiff,
            transparency | tf.equal(kind, TRANSPARENCY),
            text + packed,
            count + 1,
        )

    start = (len(MAGIC), 0, False, 0, 0)
    offset, tiff, transparency, text, count = tf.while_loop(
        is_chunk, next_chunk, tuple(map(tf.constant, start))
    )
    status = tf.where(text <= work.TEXT_LIMIT, OK, work.MUCH_TEXT)
    status = tf.where(count <= limit, status, work.MANY_CHUNKS)
    return tf.where(offset >= 0, status, DAMAGED), tiff, transparency
