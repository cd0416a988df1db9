# SPDX-License-Identifier: Apache-2.0
"""BMP images without compression, of 1 to 8 bits with a palette, or of 24 or 32 bits.

TensorFlow's own decoder takes the palette's indices for gray, and does not look at masks or compression.
"""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding.fields import Header, Start, make_header
from inception_tf.data.skipped import DAMAGED, OK

__all__ = ["OTHER_KIND", "decode", "read_header"]

OTHER_KIND = "a BMP with compression or 16 bits per pixel, which is not read; save it as PNG"
RGB, BITFIELDS = 0, 3  # compression
MASKS = [0x00FF0000, 0x0000FF00, 0x000000FF]  # red, green, blue of 32 bits, as without masks
ALPHA_MASK = 0xFF000000
FILE_HEADER, INFO_HEADER = 14, 40  # bytes
PALETTE = 4 * 256  # bytes, at most


def read_header(start: Start) -> tuple[tf.Tensor, ...]:
    """Read the header of a BMP.

    Args:
        start: The first bytes of a file that begins with `BM`.

    Returns:
        What `make_header` returns; places: bits per pixel, offset of the pixels, bytes of a row, whether there is
        alpha, whether the first row is the lowest, offset of the palette, bytes that the file must have.
    """
    header, width, height, bits, compression, offset, used, alpha, *masks = start.fields(
        *((14, 4), (18, 4), (22, 4), (28, 2), (30, 4), (10, 4), (46, 4), (66, 4)),
        *((54, 4), (58, 4), (62, 4)),
    )
    # Some programs do not count the palette, of as many colors as are used or possible.
    colors = tf.where(used > 0, used, tf.bitwise.left_shift(tf.constant(1, tf.int64), bits))
    is_uncounted = (bits <= 8) & tf.equal(offset, FILE_HEADER + header)
    offset += tf.where(is_uncounted, 4 * tf.minimum(colors, 256), 0)
    is_upside_down = height < 1 << 31  # negative: the first row is the uppermost
    height = tf.where(is_upside_down, height, (1 << 32) - height)
    has_masks = (
        tf.equal(compression, BITFIELDS) & (bits == 32) & tf.reduce_all(tf.stack(masks) == MASKS)
    )
    # Only a header with four masks has alpha; without one the fourth byte means nothing.
    has_alpha = has_masks & (header > INFO_HEADER + 12) & tf.equal(alpha, ALPHA_MASK)
    is_plain = tf.equal(compression, RGB) & tf.reduce_any(bits == (1, 4, 8, 24, 32))
    stride = (width * bits + 31) // 32 * 4
    end = offset + stride * height
    fits = (header >= INFO_HEADER) & (width > 0) & (width < 1 << 31) & (height > 0)
    status = tf.where(fits, tf.where(is_plain | has_masks, OK, OTHER_KIND), DAMAGED)
    end = tf.minimum(end, (1 << 31) - 1)
    places = (bits, offset, stride, has_alpha, is_upside_down, FILE_HEADER + header, end)
    return make_header(status, height, tf.where(width < 1 << 31, width, 0), places)


def decode(data: tf.Tensor, header: Header) -> tf.Tensor:
    """Decode a BMP whose status is `ok`.

    Args:
        data: () string.
        header: Its header.

    Returns:
        (H, W, 3) uint8, or (H, W, 4) with alpha.
    """
    bits, offset, stride, has_alpha, is_upside_down, palette, _, _ = tf.unstack(header.places)
    height, width = tf.cast(header.height, tf.int32), tf.cast(header.width, tf.int32)
    content = tf.strings.substr(data, offset, stride * height)
    rows = tf.reshape(tf.io.decode_raw(content, tf.uint8), (height, stride))
    rows = tf.reverse(rows, tf.range(is_upside_down))  # along the first axis, or none

    def from_colors():
        colors = tf.reshape(rows[:, : width * (bits // 8)], (height, width, bits // 8))
        order = tf.where(has_alpha > 0, (2, 1, 0, 3), (2, 1, 0, 0))[: 3 + has_alpha]
        return tf.gather(colors, order, axis=-1)

    def from_palette():
        size = tf.clip_by_value(offset - palette, 0, PALETTE)
        entries = tf.strings.join((tf.strings.substr(data, palette, size), bytes(PALETTE)))
        entries = tf.io.decode_raw(tf.strings.substr(entries, 0, PALETTE), tf.uint8)
        # The first pixel is in the highest bits of a byte.
        shifts = tf.range(8 - bits, -1, -bits)
        indices = tf.bitwise.right_shift(tf.cast(rows, tf.int32)[..., tf.newaxis], shifts)
        indices = tf.bitwise.bitwise_and(indices, tf.bitwise.left_shift(1, bits) - 1)
        indices = tf.reshape(indices, (height, -1))[:, :width]
        return tf.gather(tf.reshape(entries, (256, 4))[:, 2::-1], indices)

    return tf.cond(bits > 8, from_colors, from_palette)
