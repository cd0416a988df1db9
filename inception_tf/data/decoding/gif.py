# SPDX-License-Identifier: Apache-2.0
"""The first frame of GIF images.

TensorFlow decodes all frames of a file, and takes memory for each: the file is cut after the first.
"""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding import work
from inception_tf.data.decoding.alpha import BACKGROUND
from inception_tf.data.decoding.fields import Header, Start, make_header
from inception_tf.data.skipped import DAMAGED, OK

__all__ = ["decode", "read_header"]

# GIF89a specification, sections 18 to 26.
SCREEN = 13  # bytes of the header and the logical screen descriptor
EXTENSION, IMAGE, CONTROL = 0x21, 0x2C, 0xF9
DESCRIPTOR = 10  # bytes of an image descriptor
TABLE = 0x80  # in the flags: a color table follows
MARGIN = 1024  # zeros after the end: more than a table and a descriptor


def read_header(data: tf.Tensor, start: Start, pixel_limit: int) -> tuple[tf.Tensor, ...]:
    """Find the first frame of a GIF.

    Args:
        data: () string.
        start: Its first bytes.
        pixel_limit: int. The blocks of an image with more pixels, which is not read, are not looked at.

    Returns:
        What `make_header` returns; places: offset of the frame's descriptor, end of its data, index of the
        transparent color or -1, left, top, offset of its color table or 0, bytes of the table.
    """
    content = tf.io.decode_raw(data, tf.uint8)
    end = tf.size(content)
    content = tf.pad(content, ((0, MARGIN),))

    def byte(offset):
        return tf.cast(content[offset], tf.int32)

    columns, rows, flags = start.fields((6, 2), (8, 2), (10, 1))
    flags = tf.cast(flags, tf.int32)
    limit = _limit(rows, columns, pixel_limit)
    first, transparent, before = _first_image(byte, end, SCREEN + _table_size(flags), limit)
    descriptor = tf.reshape(tf.cast(content[first : first + DESCRIPTOR], tf.int32), (DESCRIPTOR,))
    left, top, width, height = tf.unstack(descriptor[1:9:2] + 256 * descriptor[2:9:2])
    local_size = _table_size(descriptor[9])
    is_local = local_size > 0
    data_limit = _limit(height, width, pixel_limit)
    last, within = _end_of_data(
        byte, end, first + DESCRIPTOR + local_size + 1, data_limit
    )  # after the size of the codes
    is_few = (before <= limit) & (within <= data_limit)
    is_whole = tf.equal(descriptor[0], IMAGE) & (first < end) & (last < end) & (width * height > 0)
    # Where the walk was ended, no frame was found, and a screen that is too large says so itself.
    found = tf.cast((first < end) & (before <= limit), tf.int64)
    is_large = rows * columns > pixel_limit
    rows = tf.where(is_large, rows, tf.maximum(rows, tf.cast(top + height, tf.int64)) * found)
    columns = tf.where(
        is_large, columns, tf.maximum(columns, tf.cast(left + width, tf.int64)) * found
    )
    table = tf.where(is_local, first + DESCRIPTOR, SCREEN)
    size = tf.where(is_local, local_size, _table_size(flags))
    places = (first, last + 1, transparent, left, top, table, size)
    status = tf.where(is_few, tf.where(is_whole, OK, DAMAGED), work.MANY_BLOCKS)
    return make_header(status, rows, columns, places)


def decode(data: tf.Tensor, header: Header) -> tf.Tensor:
    """Decode the first frame of a GIF whose status is `ok`, on the background where it is transparent.

    Args:
        data: () string.
        header: Its header.

    Returns:
        (H, W, 3) uint8.
    """
    first, end, transparent, left, top, table, size, _ = tf.unstack(header.places)
    # The color that is transparent becomes that of the background, and the frame moves to the corner.
    color = table + 3 * tf.clip_by_value(transparent, 0, size // 3 - 1)
    length = tf.where((transparent >= 0) & (transparent < size // 3), 3, 0)
    corner = tf.strings.join((bytes((IMAGE, 0, 0, 0, 0)), tf.strings.substr(data, first + 5, 5)))
    background = tf.strings.substr(bytes((BACKGROUND,) * 3), 0, length)
    is_global = table < first
    pieces = (
        tf.strings.substr(data, 0, SCREEN),
        tf.where(is_global, _patched(data, SCREEN, color, background, SCREEN + size), b""),
        corner,
        tf.where(
            is_global,
            tf.strings.substr(data, first + DESCRIPTOR, end - first - DESCRIPTOR),
            _patched(data, first + DESCRIPTOR, color, background, end),
        ),
        b";",
    )
    image = tf.io.decode_gif(tf.strings.join(pieces))[0]
    canvas = tf.cast(tf.stack((header.height, header.width)), tf.int32)
    before = tf.stack((top, left))
    after = canvas - before - tf.shape(image)[:2]
    margins = tf.concat((tf.stack((before, after), axis=1), ((0, 0),)), 0)
    return tf.pad(image, margins, constant_values=BACKGROUND)


def _limit(height, width, pixel_limit):
    """The most blocks that are walked through; none of an image that is too large."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    limit = tf.where(pixels <= pixel_limit, work.block_limit(height, width), 0)
    return tf.cast(limit, tf.int32)


def _table_size(flags):
    """Bytes of the color table that follows; 0 if there is none."""
    size = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
    return tf.where(flags >= TABLE, size, 0)


def _first_image(byte, end, offset, limit):
    """The offset of the first image's descriptor, the index of its transparent color or -1, and the blocks before it."""

    def is_before_image(offset, inside, transparent, count):
        return (offset < end) & (count <= limit) & (inside | tf.equal(byte(offset), EXTENSION))

    def next_block(offset, inside, transparent, count):
        # An extension begins with two bytes; blocks of stated length follow, of which the last is empty.
        length = byte(offset)
        is_set = tf.where(byte(offset + 3) % 2 > 0, byte(offset + 6), -1)
        is_control = ~inside & tf.equal(byte(offset + 1), CONTROL)
        after = offset + tf.where(inside, 1 + length, 2)
        return after, ~inside | (length > 0), tf.where(is_control, is_set, transparent), count + 1

    start = (offset, tf.constant(False), tf.constant(-1), tf.constant(0))
    offset, inside, transparent, count = tf.while_loop(is_before_image, next_block, start)
    return tf.where(inside, end, tf.minimum(offset, end)), transparent, count


def _end_of_data(byte, end, offset, limit):
    """The offset of the empty block that ends an image's data, the end of the file if there is none, and the blocks before."""

    def has_data(offset, count):
        return (offset < end) & (count <= limit) & (byte(offset) > 0)

    def next_data(offset, count):
        return offset + 1 + byte(offset), count + 1

    offset, count = tf.while_loop(has_data, next_data, (offset, tf.constant(0)))
    return tf.minimum(offset, end), count


def _patched(data, begin, place, new, end):
    """The bytes of a file from `begin` to `end` with those at `place` replaced."""
    after = place + tf.strings.length(new)
    return tf.strings.join(
        (
            tf.strings.substr(data, begin, place - begin),
            new,
            tf.strings.substr(data, after, end - after),
        )
    )
