# SPDX-License-Identifier: Apache-2.0
"""The EXIF orientation of an image, read and applied by TensorFlow operations.

TensorFlow's decoders ignore it, so that a phone's portrait photograph lies on its side.
"""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding.prepared import prepared_when_called

__all__ = ["has_no_exif", "orientation_at", "read_orientation", "rotate_upright"]

SEARCHED = 1 << 17  # bytes: a segment has at most 64 kB, and EXIF comes first or after one other
SEGMENTS = 16  # the most segments that are searched
EXIF = b"Exif\0\0"
JFIF = b"\xff\xd8\xff\xe0\x00\x10"  # a JPEG's start and its APP0 of 16 bytes
TABLES = (b"\xff\xdb", b"\xff\xc4", b"\xff\xc0", b"\xff\xc2")  # quantization, Huffman, frames
TAG = 0x0112  # Orientation, TIFF 6.0 and EXIF 2.3, table 4
ENTRY = 12  # bytes of one tag in a TIFF directory
ENTRIES = 256  # the most tags that are read, because a damaged count may be huge


def read_orientation(data: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an encoded JPEG.

    Args:
        data: () string.

    Returns:
        () int32 in [1, 8]; 1 (upright) if the file has none.
    """
    return tf.cond(has_no_exif(data), lambda: tf.constant(1), lambda: _search(data))


def orientation_at(data: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a PNG or WebP, where a chunk holds what a JPEG has in a segment.

    Args:
        data: () string.
        tiff: () int. Where the chunk's content begins; 0: there is none.

    Returns:
        () int32 in [1, 8]; 1 (upright) if the file has none.
    """
    tiff = tf.cast(tiff, tf.int32)

    def read():
        size = tf.minimum(tf.strings.length(data) - tiff, SEARCHED)
        content = tf.io.decode_raw(tf.strings.substr(data, tiff, size), tf.uint8)
        # Some programs keep the name of the JPEG's segment.
        named = tf.reduce_all(content[: len(EXIF)] == tuple(EXIF))
        return _read_tag(content, tf.where(named, len(EXIF), 0))

    enough = (tiff > 0) & (tiff + 2 * ENTRY < tf.strings.length(data))
    return tf.cond(enough, prepared_when_called(read), lambda: tf.constant(1))


def has_no_exif(data: tf.Tensor) -> tf.Tensor:
    """Whether the first bytes rule out EXIF, without searching for it.

    Most files start with JFIF's 20 bytes and then a table, after which there is no EXIF.

    Args:
        data: () string.

    Returns:
        () bool. True: a JPEG without EXIF; False: unknown.
    """
    start = tf.strings.substr(data, 0, tf.minimum(tf.strings.length(data), 22))
    # A string may be shorter than 20 bytes.
    table = tf.strings.substr(start, tf.minimum(tf.strings.length(start), 20), 2)
    jfif = tf.strings.substr(start, 0, tf.minimum(tf.strings.length(start), len(JFIF)))
    return tf.equal(jfif, JFIF) & tf.reduce_any(table == TABLES)


def _search(data):
    size = tf.minimum(tf.strings.length(data), SEARCHED)
    content = tf.io.decode_raw(tf.strings.substr(data, 0, size), tf.uint8)
    tiff = _find_exif(content)
    return tf.cond(tiff > 0, lambda: _read_tag(content, tiff), lambda: tf.constant(1))


def rotate_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror an image according to its EXIF orientation.

    Args:
        image: (H, W, C) as stored.
        orientation: () int32 in [1, 8].

    Returns:
        (H, W, C), or (W, H, C) for orientations from 5.
    """

    def rotated():
        # One operation each: conditions on every part would take longer to prepare than to compute.
        turned = tf.transpose(
            image, tf.gather(((0, 1, 2), (1, 0, 2)), tf.cast(orientation >= 5, tf.int32))
        )
        is_mirrored = tf.reduce_any(tf.equal(orientation, (2, 3, 6, 7)))
        is_flipped = tf.reduce_any(tf.equal(orientation, (3, 4, 7, 8)))
        return tf.reverse(turned, tf.boolean_mask((0, 1), (is_flipped, is_mirrored)))

    return tf.cond(orientation > 1, prepared_when_called(rotated), lambda: image)


def _find_exif(content):
    """The offset of the TIFF header in the EXIF segment; 0 if there is none."""
    end = tf.size(content)

    def is_segment(offset, tiff, count):
        marker = _number(content, offset, 2)
        # APP0 to APP15 and comments: EXIF is among them, before the tables and the pixels.
        is_metadata = ((marker >= 0xFFE0) & (marker <= 0xFFEF)) | (marker == 0xFFFE)
        return (tiff == 0) & (count < SEGMENTS) & (offset + 4 < end) & is_metadata

    def next_segment(offset, tiff, count):
        start = tf.gather(content, tf.clip_by_value(offset + 4 + tf.range(len(EXIF)), 0, end - 1))
        exif = (_number(content, offset, 2) == 0xFFE1) & tf.reduce_all(start == tuple(EXIF))
        tiff = tf.where(exif, offset + 4 + len(EXIF), 0)
        return offset + 2 + _number(content, offset + 2, 2), tiff, count + 1

    start = (tf.constant(2), tf.constant(0), tf.constant(0))
    return tf.while_loop(is_segment, next_segment, start)[1]


@prepared_when_called
def _read_tag(content, tiff):
    little = tf.equal(content[tiff], ord("I"))
    directory = tiff + _number(content, tiff + 4, 4, little)
    count = tf.minimum(_number(content, directory, 2, little), ENTRIES)
    entries = directory + 2 + ENTRY * tf.range(count)
    stated = tf.equal(_number(content, entries, 2, little), TAG)
    values = tf.boolean_mask(_number(content, entries + 8, 2, little), stated)
    value = tf.reduce_max(tf.concat((values, (1,)), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _number(
    content: tf.Tensor, offset: tf.Tensor | int, size: int, little: tf.Tensor | bool = False
) -> tf.Tensor:
    """The unsigned integers of `size` bytes at `offset` (any shape) as int32; reading beyond the end repeats the last byte."""
    offsets = tf.cast(offset, tf.int32)[..., tf.newaxis] + tf.range(size)
    # A damaged offset may point anywhere.
    taken = tf.gather(content, tf.clip_by_value(offsets, 0, tf.size(content) - 1))
    order = tf.range(size)
    weights = tf.bitwise.left_shift(1, 8 * tf.where(little, order, size - 1 - order))
    return tf.reduce_sum(tf.cast(taken, tf.int32) * weights, axis=-1)
