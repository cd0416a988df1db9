# SPDX-License-Identifier: Apache-2.0
"""Which way up a photograph is: the EXIF tag of a JPEG, read and undone in TensorFlow operations.

TensorFlow's decoders ignore the tag, so that a telephone's portrait lies on its side.
"""

from __future__ import annotations

import tensorflow as tf

__all__ = ["has_no_exif", "orientation", "upright"]

SEARCHED = 1 << 17  # bytes: a segment has at most 64 kB, and EXIF comes first or after one other
SEGMENTS = 16  # looked at
EXIF = b"Exif\0\0"
JFIF = b"\xff\xd8\xff\xe0\x00\x10"  # a JPEG's start and its APP0 of 16 bytes
TABLES = (b"\xff\xdb", b"\xff\xc4", b"\xff\xc0", b"\xff\xc2")  # quantization, Huffman, frames
TAG = 0x0112  # Orientation, TIFF 6.0 and EXIF 2.3, table 4
ENTRY = 12  # bytes of one tag in a TIFF directory
ENTRIES = 256  # tags looked at; a damaged count must not be believed


def orientation(data):
    """The EXIF orientation of an encoded JPEG: () string → () int32 from 1 to 8, 1 (upright) where it states none."""
    return tf.cond(has_no_exif(data), lambda: tf.constant(1), lambda: _stated(data))


def has_no_exif(data):
    """Is it plain to see that () string is a JPEG without EXIF?  () bool; False leaves it open.

    Most files are JFIF's 20 bytes and then a table, behind which there is no EXIF.
    """
    start = tf.strings.substr(data, 0, tf.minimum(tf.strings.length(data), 22))
    # A string that is too short has no place 20.
    table = tf.strings.substr(start, tf.minimum(tf.strings.length(start), 20), 2)
    jfif = tf.strings.substr(start, 0, tf.minimum(tf.strings.length(start), len(JFIF)))
    return tf.equal(jfif, JFIF) & tf.reduce_any(table == TABLES)


def _stated(data):
    size = tf.minimum(tf.strings.length(data), SEARCHED)
    content = tf.io.decode_raw(tf.strings.substr(data, 0, size), tf.uint8)
    tiff = _find_exif(content)
    return tf.cond(tiff > 0, lambda: _read_tag(content, tiff), lambda: tf.constant(1))


def upright(image, orientation):
    """(H, W, C) as it is stored → as it is meant to be seen, (W, H, C) for orientations from 5 on."""

    def turned():
        stood = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        mirrored = tf.reduce_any(tf.equal(orientation, (2, 3, 6, 7)))
        stood = tf.cond(mirrored, lambda: stood[:, ::-1], lambda: stood)
        upset = tf.reduce_any(tf.equal(orientation, (3, 4, 7, 8)))
        return tf.cond(upset, lambda: stood[::-1], lambda: stood)

    return tf.cond(orientation > 1, turned, lambda: image)


def _find_exif(content):
    """Where the TIFF header of the EXIF segment starts; 0 where there is none."""
    end = tf.size(content)

    def is_segment(place, tiff, count):
        marker = _number(content, place, 2)
        # APP0 to APP15 and comments: EXIF stands among them, before the tables and the pixels.
        told = ((marker >= 0xFFE0) & (marker <= 0xFFEF)) | (marker == 0xFFFE)
        return (tiff == 0) & (count < SEGMENTS) & (place + 4 < end) & told

    def next_segment(place, tiff, count):
        start = tf.gather(content, tf.clip_by_value(place + 4 + tf.range(len(EXIF)), 0, end - 1))
        exif = (_number(content, place, 2) == 0xFFE1) & tf.reduce_all(start == tuple(EXIF))
        tiff = tf.where(exif, place + 4 + len(EXIF), 0)
        return place + 2 + _number(content, place + 2, 2), tiff, count + 1

    start = (tf.constant(2), tf.constant(0), tf.constant(0))
    return tf.while_loop(is_segment, next_segment, start)[1]


def _read_tag(content, tiff):
    little = tf.equal(content[tiff], ord("I"))
    directory = tiff + _number(content, tiff + 4, 4, little)
    count = tf.minimum(_number(content, directory, 2, little), ENTRIES)
    entries = directory + 2 + ENTRY * tf.range(count)
    stated = tf.equal(_number(content, entries, 2, little), TAG)
    values = tf.boolean_mask(_number(content, entries + 8, 2, little), stated)
    value = tf.reduce_max(tf.concat((values, (1,)), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _number(content, place, size: int, little=False):
    """The unsigned integers of `size` bytes at `place` (any shape) as int32; bytes beyond the end are the last one."""
    places = tf.cast(place, tf.int32)[..., tf.newaxis] + tf.range(size)
    # A damaged offset may point anywhere.
    taken = tf.gather(content, tf.clip_by_value(places, 0, tf.size(content) - 1))
    order = tf.range(size)
    weights = tf.bitwise.left_shift(1, 8 * tf.where(little, order, size - 1 - order))
    return tf.reduce_sum(tf.cast(taken, tf.int32) * weights, axis=-1)
