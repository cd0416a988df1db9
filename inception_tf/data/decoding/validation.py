# SPDX-License-Identifier: Apache-2.0
"""Checks of an encoded image before it is decoded."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.data.decoding import bmp, gif, png, webp, work
from inception_tf.data.decoding.fields import PLACES, Header, Start, make_header, read_start
from inception_tf.data.decoding.prepared import prepared_when_called
from inception_tf.data.formats import NOT_AN_IMAGE
from inception_tf.data.skipped import DAMAGED, OK

__all__ = [
    "BMP",
    "GIF",
    "JPEG",
    "JPEG_MAGIC",
    "OTHER",
    "PIXEL_LIMIT",
    "PNG",
    "WEBP",
    "check_encoded",
    "check_jpeg",
    "check_size",
    "fits_limit",
    "read_header",
    "starts_with",
]

PIXEL_LIMIT = 50_000_000  # height x width read from the header; 150 MB once decoded to RGB
JPEG_MAGIC = b"\xff\xd8\xff"
JPEG, PNG, WEBP, GIF, BMP, OTHER = range(6)  # kinds of a header
# Offset, bytes at it, kind.  The last has none, and is the kind of all others.
MAGICS = (
    (0, JPEG_MAGIC, JPEG),
    (0, png.MAGIC[:4], PNG),
    (4, png.MAGIC[4:], PNG),
    (0, b"RIFF", WEBP),
    (8, b"WEBP", WEBP),
    (0, b"GIF8", GIF),
    (5, b"a", GIF),
    (0, b"BM", BMP),
    (0, b"", OTHER),
)
# The rare formats, which most data does not have.
read_webp = prepared_when_called(webp.read_header)
read_gif = prepared_when_called(gif.read_header)
read_bmp = prepared_when_called(bmp.read_header)
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
HEIF = "a HEIC or AVIF image, which is not read; convert it: magick mogrify -format jpg -auto-orient FILE"


def check_encoded(data: tf.Tensor, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Check the format, the size and the work that an encoded image asks for, and, of a PNG, its chunks.

    Only the header is read.  On a truncated header the operation fails with `InvalidArgumentError`, so that
    callers run it where an error affects one image only, as in `images.with_fallback`.

    Args:
        data: () string.
        pixel_limit: int. The largest height x width.

    Returns:
        () string: `ok`, or a short reason.
    """
    return read_header(data, pixel_limit).status


def read_header(data: tf.Tensor, pixel_limit: int = PIXEL_LIMIT) -> Header:
    """Read the header of an encoded image of any format, as `check_encoded` does.

    Args:
        data: () string.
        pixel_limit: int. The largest height x width.

    Returns:
        The header, which `images.decode` takes.
    """
    start = read_start(data)
    kind = _kind(start)
    readers = {
        JPEG: lambda: _read_jpeg(data, pixel_limit),
        PNG: lambda: png.read_header(data, start, pixel_limit),
        WEBP: lambda: read_webp(data, start),
        GIF: lambda: read_gif(data, start, pixel_limit),
        BMP: lambda: read_bmp(start),
        OTHER: lambda: _read_other(data, start),
    }
    status, height, width, places = tf.switch_case(kind, readers)
    places = tf.reshape(places, (PLACES,))
    # Of a BMP the last of the places is where its pixels end.
    is_short = tf.equal(kind, BMP) & (places[6] > tf.strings.length(data))

    size = check_size(height, width, pixel_limit)
    of_content = tf.where(is_short, DAMAGED, status)
    return Header(
        tf.where(tf.equal(size, OK), of_content, size), height, width, places, kind, start
    )


def check_size(height: tf.Tensor, width: tf.Tensor, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Check the size of an image.

    Args:
        height: () int. Pixels.
        width: () int. Pixels.
        pixel_limit: int. The largest height x width.

    Returns:
        () string: `ok`, or a short reason.
    """

    size = (width, height, pixel_limit)
    reason = tf.strings.format("{}x{} pixels, at most {} are read", size)
    return tf.where(fits_limit(height, width, pixel_limit), OK, reason)


def check_jpeg(data: tf.Tensor, shape: tf.Tensor, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Check the size and the number of scans of a JPEG.

    Args:
        data: () string.
        shape: (3,) int. Its height, width and channels.
        pixel_limit: int. The largest height x width.

    Returns:
        () string: `ok`, or a short reason.
    """
    size = check_size(shape[0], shape[1], pixel_limit)
    is_few = work.has_few_scans(data, shape[0], shape[1])
    return tf.where(tf.equal(size, OK), tf.where(is_few, OK, work.MANY_SCANS), size)


def fits_limit(height: tf.Tensor, width: tf.Tensor, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Whether an image is small enough.

    Args:
        height: () int. Pixels.
        width: () int. Pixels.
        pixel_limit: int. The largest height x width.

    Returns:
        () bool.
    """
    # 65000 x 65000 is negative in 32 bits.
    return tf.cast(height, tf.int64) * tf.cast(width, tf.int64) <= pixel_limit


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


def _kind(start: Start) -> tf.Tensor:
    offsets = tf.constant([offset for offset, _, _ in MAGICS])
    sizes = tf.constant([(1 << 8 * len(magic)) - 1 for _, magic, _ in MAGICS], tf.int64)
    wanted = tf.constant([int.from_bytes(m, "little") for _, m, _ in MAGICS], tf.int64)
    found = tf.equal(tf.bitwise.bitwise_and(tf.gather(start.little, offsets), sizes), wanted)
    # A kind of two rows needs both; rows of one kind follow each other.
    kinds = tf.constant([kind for _, _, kind in MAGICS])
    is_kind = tf.math.segment_min(tf.cast(found, tf.int32), kinds)
    return tf.argmax(is_kind, output_type=tf.int32)  # the first that is true


def _read_jpeg(data, pixel_limit):
    shape = tf.image.extract_jpeg_shape(data)
    return make_header(check_jpeg(data, shape, pixel_limit), shape[0], shape[1])


def _read_other(data, start):
    brands = [int.from_bytes(brand, "little") for brand in HEIF_BRANDS]
    box, brand = start.fields((4, 4), (8, 4))
    is_heif = tf.equal(box, int.from_bytes(b"ftyp", "little")) & tf.reduce_any(brand == brands)
    status = tf.where(is_heif, HEIF, NOT_AN_IMAGE)
    return make_header(tf.where(tf.equal(tf.strings.length(data), 0), "empty", status))
