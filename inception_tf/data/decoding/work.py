# SPDX-License-Identifier: Apache-2.0
"""How much work an image may ask for: scans, chunks and blocks, by its number of pixels.

A file of a few bytes can ask for any amount: each scan of a JPEG goes through all pixels, and each chunk of a PNG and
block of a GIF takes a step here.  Within these limits an image takes at most `SECONDS_PER_MEGAPIXEL`.

A lossless WebP is the exception: how many Huffman codes it has stands behind parts that only a decoder reads.  It has
one for each 4x4 pixels at most, and 65,536, whose tables take `WEBP_TABLES` and `WEBP_SECONDS`.
"""

from __future__ import annotations

import tensorflow as tf

__all__ = [
    "MEGAPIXEL",
    "MANY_BLOCKS",
    "MANY_CHUNKS",
    "MANY_SCANS",
    "MUCH_TEXT",
    "SECONDS_PER_MEGAPIXEL",
    "TEXT_LIMIT",
    "TEXT_OF_CHUNK",
    "WEBP_SECONDS",
    "WEBP_TABLES",
    "block_limit",
    "chunk_limit",
    "has_few_scans",
]

# On one core of 2 GHz, measured by tests/test_slow_images.py; an image of less than a megapixel counts as one.
SECONDS_PER_MEGAPIXEL = 0.5
MEGAPIXEL = 1_000_000
SCAN = b"\xff\xda"  # the marker; compressed data never contain it
# Of a megapixel or more.  Encoders write up to 12; 64 is one for each coefficient, as a file of the JPEG suite has them.
SCANS = 64
LEAST_PIXELS = 1 << 16  # that a scan counts for: its header and its tables take time too
# libpng writes 8 KiB of compressed pixels into a chunk: a megapixel of 64 bits each has 1,000 at most.
CHUNKS, CHUNKS_PER_MEGAPIXEL = 1_000, 1_000
# A block has up to 255 bytes: a megapixel that does not compress has 6,000.
BLOCKS, BLOCKS_PER_MEGAPIXEL = 1_000, 8_000
# libpng unpacks the compressed text of a chunk to up to 8 MB, which is 1,032 times as much at most.
TEXT_OF_CHUNK = 7_752  # bytes of one chunk that count
TEXT_LIMIT = 8 * TEXT_OF_CHUNK

# Bytes and seconds, beside those of its pixels; a smaller image has that part of it that it has of a megapixel.
WEBP_TABLES, WEBP_SECONDS = 1 << 30, 2.0

_AGAIN = "which would take long to read; save it again"
MANY_SCANS = f"a JPEG with too many scans for its size, {_AGAIN}"
MANY_CHUNKS = f"a PNG with too many chunks for its size, {_AGAIN}"
MUCH_TEXT = f"a PNG with too many chunks of compressed text, {_AGAIN}"
MANY_BLOCKS = f"a GIF with too many blocks for its size, {_AGAIN}"


def has_few_scans(data: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG has no more scans than its number of pixels allows.

    Args:
        data: () string.
        height: () int. Pixels.
        width: () int. Pixels.

    Returns:
        () bool.
    """
    most = SCANS * MEGAPIXEL // LEAST_PIXELS
    # Before the first scan is one piece more.
    scans = tf.size(tf.strings.split(data, SCAN, most + 1), tf.int64) - 1
    pixels = tf.maximum(_pixels(height, width), LEAST_PIXELS)
    return scans * pixels <= SCANS * tf.maximum(pixels, MEGAPIXEL)


def chunk_limit(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """How many chunks a PNG may have.

    Args:
        height: () int. Pixels.
        width: () int. Pixels.

    Returns:
        () int64.
    """
    return CHUNKS + CHUNKS_PER_MEGAPIXEL * _pixels(height, width) // MEGAPIXEL


def block_limit(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """How many blocks a GIF may have to the end of its first frame.

    Args:
        height: () int. Pixels.
        width: () int. Pixels.

    Returns:
        () int64.
    """
    return BLOCKS + BLOCKS_PER_MEGAPIXEL * _pixels(height, width) // MEGAPIXEL


def _pixels(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
