# SPDX-License-Identifier: Apache-2.0
"""Images of every kind that an export reads or refuses, generated: each goes through another part of its graph."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import tensorflow as tf

from inception_tf.data.decoding import images, transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import OK

__all__ = ["Prepared", "prepare_arrays", "prepare_probes", "probe_arrays", "probe_images"]

TILE = 8  # pixels of one color, which a JPEG keeps
# 8x6 pixels by Pillow 12: lossless with alpha and EXIF orientation 6, and lossy.
WEBP_LOSSLESS = (
    "UklGRmAAAABXRUJQVlA4WAoAAAAYAAAABwAABQAAVlA4TCAAAAAvB0ABELmM6H/sIqL/ASEBYY7/GyULxmO0hn0CEG2xAUVYSUYaAAAA"
    "TU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA="
)
WEBP_LOSSY = "UklGRkYAAABXRUJQVlA4IDoAAAAQAgCdASoIAAYAAsBMJbACdLoAAwi4u7HwAP7xqGbVoawEBNeT+zRpoFmotHcmv+b+VP38ATPxLIAA"
JPEG_SIDE, PNG_SIDE = 65_535, 2**31 - 1  # pixels that a header can state
# What files that take long to read have many of: scans of a JPEG, chunks of a PNG and its compressed texts.
LONG = {b"\xff\xda": 100, b"abCd": 100, b"zTXt": 8}
ALPHA = (4, 6)  # color types of a PNG
SIDES_TRIED = 5_000  # heights, for the smallest area above a limit


@dataclass(frozen=True)
class Prepared:
    """What this package reads in images, without the export's graph."""

    statuses: tuple[str, ...]
    pixels: np.ndarray  # (N, size, size, 3) float32; zeros where the status is not `ok`


@cache
def probe_images(pixel_limit: int, *, all_kinds: bool = True) -> tuple[bytes, ...]:
    """Generates image files.

    Args:
        pixel_limit: Height x width of the largest image that the export reads; two files have a header just above it.
        all_kinds: False for an export of inception_tf 0.1, which reads JPEG and PNG alone, and whatever time they take.

    Returns:
        The content of each: first those to read, then those to refuse.
    """
    found = _images(pixel_limit)
    return found if all_kinds else tuple(item for item in found if _is_of_0_1(item))


def _is_of_0_1(item: bytes) -> bool:
    """Whether exports of inception_tf 0.1 give an image today's status: an ordinary JPEG or PNG, or nothing."""
    takes_long = any(item.count(part) > most for part, most in LONG.items())
    # It ignored the orientation of a PNG, and showed the colors of transparent pixels.
    is_png = item.startswith(b"\x89PNG")
    read_otherwise = is_png and (item[25] in ALPHA or b"tRNS" in item or b"eXIf" in item)
    is_kind = is_png or item.startswith(b"\xff\xd8\xff") or not item
    return is_kind and not (takes_long or read_otherwise)


def _images(pixel_limit: int) -> tuple[bytes, ...]:
    plain = _tiles(64, 96, 3)
    turned = _tiles(72, 56, 3)
    truncated = _jpeg(plain)
    return (
        _jpeg(plain),
        _with_orientation(_jpeg(turned), 6),
        _png(plain, 2),
        _jpeg(_tiles(40, 64, 1)),
        tf.io.encode_jpeg(turned, progressive=True, chroma_downsampling=False).numpy(),
        _with_orientation(_jpeg(turned), 3),
        _jpeg(_tiles(2400, 2400, 3)),
        _png(_tiles(48, 64, 4), 6),
        _png(_tiles(48, 64, 1), 0),
        _png(_tiles(48, 64, 4), 6, (b"eXIf", _tiff(8))),
        _png(_tiles(40, 40, 3).astype(np.uint16) * 257 - 3, 2),
        _png(_tiles(40, 40, 1), 3, (b"PLTE", bytes(range(256)) * 3), (b"tRNS", bytes(range(256)))),
        _png(_tiles(2056, 2048, 4), 6),
        _bmp(_tiles(40, 32, 3)),
        _bmp(_tiles(40, 32, 1)),
        _bmp(_tiles(40, 32, 4)),
        _gif(_tiles(40, 32, 1) // 2),
        base64.b64decode(WEBP_LOSSLESS),
        base64.b64decode(WEBP_LOSSY),
        b"",
        b"not an image",
        truncated[: len(truncated) // 2],
        b"\0\0\0\x18ftypheic" + bytes(16),
        b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + bytes(40),
        _bmp(_tiles(40, 32, 1), compression=1),
        _png(plain, 2)[:-20],
        _with_scans(tf.io.encode_jpeg(turned, progressive=True).numpy(), 1_000),
        _png(plain, 2, *((b"abCd", b""),) * 1_100),
        _png(plain, 2, *((b"zTXt", bytes(10_000)),) * 9),
        _gif(_tiles(40, 32, 1) // 2, comments=2_500),
        _png_header(*_sides_above(pixel_limit, PNG_SIDE)),
        _jpeg_header(*_sides_above(pixel_limit, JPEG_SIDE)),
    )


def probe_arrays() -> tuple[np.ndarray, ...]:
    """Generates decoded images.

    Returns:
        Batches (1, H, W, 3) uint8: one that is not square, and one so large that it is resized in another way.
    """
    return _tiles(61, 97, 3)[np.newaxis], _tiles(2400, 2400, 3)[np.newaxis]


@cache
def prepare_probes(
    preprocessing: Preprocessing, pixel_limit: int, *, all_kinds: bool = True
) -> Prepared:
    """Reads `probe_images(pixel_limit)` as the metadata of an export say that it does, outside of its graph.

    Args:
        preprocessing: Size, crop and scale.
        pixel_limit: Height x width of the largest image that is read.
        all_kinds: As for `probe_images`.

    Returns:
        Statuses and pixels.
    """
    steps = transforms.evaluation_steps(preprocessing)
    shape = (preprocessing.size, preprocessing.size, 3)

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(item):
        blank = tf.zeros(shape)

        def decoded(item):
            status, image = images.read_image(
                item, bits=preprocessing.bits, pixel_limit=pixel_limit
            )
            pixels = tf.cond(
                tf.equal(status, OK), lambda: transforms.apply_steps(steps, image), lambda: blank
            )
            return tf.ensure_shape(pixels, shape), status

        return images.with_fallback(decoded, item, (blank, images.DAMAGED))

    with tf.device("/CPU:0"):
        probes = probe_images(pixel_limit, all_kinds=all_kinds)
        found = [read(tf.constant(item)) for item in probes]
    statuses = tuple(status.numpy().decode() for _, status in found)
    return Prepared(statuses, np.stack([pixels.numpy() for pixels, _ in found]))


def prepare_arrays(arrays: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Prepares decoded images as the metadata of an export say that it does.

    Args:
        arrays: uint8 (N, H, W, 3).
        preprocessing: Size, crop and scale.

    Returns:
        (N, size, size, 3) float32.
    """
    with tf.device("/CPU:0"):
        return transforms.apply_steps(
            transforms.evaluation_steps(preprocessing), tf.constant(arrays)
        ).numpy()


def _tiles(height: int, width: int, channels: int) -> np.ndarray:
    """(height, width, channels) uint8 in tiles of one color each, from the size alone."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    colors = np.random.default_rng(height * width + channels).integers(
        0, 256, (rows, columns, channels), np.uint8
    )
    return np.ascontiguousarray(colors.repeat(TILE, 0).repeat(TILE, 1)[:height, :width])


def _jpeg(image: np.ndarray) -> bytes:
    return tf.io.encode_jpeg(image).numpy()


def _tiff(orientation: int) -> bytes:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    content = b"Exif\0\0" + _tiff(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def _png(image: np.ndarray, color: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (H, W, C) uint8 or uint16; color: its color type; chunks: names and contents before the pixels."""
    height, width = image.shape[:2]
    rows = image.astype(image.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    pixels = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # each row begins with its filter, none
    head = struct.pack(">IIBBBBB", width, height, 8 * image.dtype.itemsize, color, 0, 0, 0)
    parts = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(pixels, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bmp(image: np.ndarray, compression: int = 0) -> bytes:
    """A BMP of (H, W, C) uint8: gray with a palette, of 24 bits, or of 32 bits with masks and alpha."""
    height, width, channels = image.shape
    palette = b"".join(bytes((i, 255 - i, i // 2, 0)) for i in range(256)) if channels == 1 else b""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    extra = masks if channels == 4 else b""
    header = 40 + len(extra)
    offset = 14 + header + len(palette)
    rows = image[::-1, :, [2, 1, 0, 3][:channels] if channels > 1 else [0]].tobytes()
    kind = 3 if channels == 4 else compression
    about = struct.pack(
        "<IiiHHIIiiII",
        *(header, width, height, 1, 8 * channels, kind, len(rows), 0, 0, 256 if palette else 0, 0),
    )
    return (
        struct.pack("<2sIII", b"BM", offset + len(rows), 0, offset) + about + extra + palette + rows
    )


def _with_scans(jpeg: bytes, count: int) -> bytes:
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * count + jpeg[-2:]


def _gif(image: np.ndarray, comments: int = 1) -> bytes:
    """A GIF of (H, W, 1) uint8 below 128, transparent in color 5, in a canvas that is larger; not compressed."""
    height, width, _ = image.shape
    clear, end = 128, 129  # codes of eight bits, cleared before they become longer
    codes = bytearray()
    for index, value in enumerate(image.ravel().tolist()):
        if index % 100 == 0:
            codes.append(clear)
        codes.append(value)
    codes.append(end)
    blocks = b"".join(
        bytes((len(codes[at : at + 255]),)) + codes[at : at + 255]
        for at in range(0, len(codes), 255)
    )
    table = bytes(value for i in range(128) for value in (2 * i, 255 - i, 60 + i))
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width + 6, height + 4, 0xF6, 0, 0)
        + table
        + b"!\xfe\x03abc\0" * comments
        + b"!\xf9\x04\x01\0\0\x05\0"
        + struct.pack("<BHHHHB", 0x2C, 4, 2, width, height, 0)
        + b"\x07"
        + blocks
        + b"\0;"
    )


def _sides_above(limit: int, most: int) -> tuple[int, int]:
    """Height and width, at most `most` each, whose product is above a limit by as little as is found."""
    least = -(-(limit + 1) // most)
    heights = range(least, min(least + SIDES_TRIED, most + 1))
    return min(((h, limit // h + 1) for h in heights), key=lambda sides: sides[0] * sides[1])


def _png_header(height: int, width: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _jpeg_header(height: int, width: int) -> bytes:
    """A JPEG that is small, with another size in its frame header."""
    data = _jpeg(_tiles(16, 16, 3))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
