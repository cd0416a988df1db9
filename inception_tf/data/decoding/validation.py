# SPDX-License-Identifier: Apache-2.0
"""Checks of an encoded image before it is decoded."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.skipped import DAMAGED, OK

__all__ = ["JPEG_MAGIC", "PIXEL_LIMIT", "check_encoded", "starts_with"]

PIXEL_LIMIT = 50_000_000  # height x width read from the header; 150 MB once decoded to RGB
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
CHUNK = 12  # bytes of a PNG chunk around its content: length, name, checksum
LAST = int.from_bytes(b"IEND", "big")


def check_encoded(data: tf.Tensor, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Check the format, the size and, of a PNG, the chunks of an encoded image.

    Only the header is read.  On a truncated header the operation fails with `InvalidArgumentError`, so that
    callers run it where an error affects one image only, as in `images.with_fallback`.

    Args:
        data: () string.
        pixel_limit: int. The largest height x width.

    Returns:
        () string: `ok`, or a short reason.
    """
    is_jpeg = starts_with(data, JPEG_MAGIC)
    is_png = starts_with(data, PNG_MAGIC)

    def check_size():
        height, width = tf.cond(is_jpeg, lambda: _jpeg_size(data), lambda: _png_size(data))

        def too_large():
            size = (width, height, pixel_limit)
            return tf.strings.format("{}x{} pixels, at most {} are read", size)

        def check_chunks():
            return tf.where(_has_whole_chunks(data), OK, DAMAGED)

        fits = tf.cond(is_png, check_chunks, lambda: tf.constant(OK))
        return tf.cond(height * width > pixel_limit, too_large, lambda: fits)

    return tf.case(
        [
            (tf.equal(tf.strings.length(data), 0), lambda: tf.constant("empty")),
            (tf.logical_not(is_jpeg | is_png), lambda: tf.constant("not a JPEG or PNG image")),
        ],
        default=check_size,
        exclusive=False,
    )


def starts_with(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    """Whether a string starts with some bytes.

    Args:
        data: () string.
        magic: The bytes.

    Returns:
        () bool.
    """
    size = tf.minimum(tf.strings.length(data), len(magic))
    return tf.equal(tf.strings.substr(data, 0, size), magic)


def _jpeg_size(data):
    shape = tf.cast(tf.image.extract_jpeg_shape(data), tf.int64)
    return shape[0], shape[1]


def _png_size(data):
    # Bytes 16-23 of a PNG are width and height, big-endian (PNG specification, IHDR).
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), tf.int64)
    weights = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    return tf.reduce_sum(header[4:8] * weights), tf.reduce_sum(header[0:4] * weights)


def _has_whole_chunks(data):
    """Whether every chunk of a PNG ends within the file; libpng allocates the length that a chunk states, up to 2 GB."""
    end = tf.strings.length(data)

    def is_chunk(offset):
        return (offset >= 0) & (offset + CHUNK <= end)

    def next_chunk(offset):
        head = tf.io.decode_raw(tf.strings.substr(data, offset, 8), tf.int32, little_endian=False)
        length, kind = head[0], head[1]
        fits = (length >= 0) & (length <= end - offset - CHUNK)
        # Bytes after the last chunk are ignored.
        after = tf.where(tf.equal(kind, LAST), end, offset + CHUNK + length)
        return (tf.where(fits, after, -1),)

    return tf.while_loop(is_chunk, next_chunk, (len(PNG_MAGIC),))[0] >= 0
