# SPDX-License-Identifier: Apache-2.0
"""Small files that ask for much work, and the heaviest that are read."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 7000  # pixels: 49 megapixels


def jpeg_of_scans(count: int, side: int = SIDE) -> bytes:
    """A progressive JPEG whose last scan, which has no content, comes `count` times."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (120, 130, 140)).save(
        buffer, "JPEG", progressive=True, quality=50
    )
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def png(width: int, height: int, chunks: bytes = b"", *, color: int = 2, bits: int = 8) -> bytes:
    """A black PNG with chunks before its pixels."""
    row = 1 + width * bits * {0: 1, 2: 3, 6: 4}[color] // 8
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    pixels = zlib.compress(bytes(row * height), 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunks
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def compressed_texts(count: int, kind: bytes = b"zTXt") -> bytes:
    """Chunks of 8 kB that unpack to nearly 8 MB each, as much as libpng allows."""
    flags = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    text = zlib.compress(bytes(7_900_000), 9)
    return b"".join(chunk(kind, b"key%d" % i + flags + text) for i in range(count))


def gif(before: bytes = b"", data: bytes = b"\x02\x44\x01\0") -> bytes:
    """A GIF of one pixel."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    return screen + before + struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0) + b"\x02" + data + b";"


class Bits:
    """A bit stream, each number's lowest bit first."""

    def __init__(self):
        self.number, self.count, self.content = 0, 0, bytearray()

    def put(self, *pairs: tuple[int, int]) -> None:
        """Each pair: a number, and its count of bits."""
        for value, count in pairs:
            self.number |= value << self.count
            self.count += count
            whole = self.count // 8
            self.content += (self.number & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
            self.number >>= 8 * whole
            self.count -= 8 * whole


def webp_of_codes(side: int = 1024) -> bytes:
    """A lossless WebP with five Huffman codes for each 4x4 pixels; of 65,536 blocks each has its own.

    RFC 9649, sections 3.4 to 3.7: no transform, a color cache of 2,048, blocks of 4x4.
    """
    stream, blocks, single = Bits(), (-(-side // 4)) ** 2, ((1, 4),)  # single: one symbol, 0
    stream.put(
        (0x2F, 8), (side - 1, 14), (side - 1, 14), (0, 4), (0, 1), (1, 1), (11, 4), (1, 1), (0, 3)
    )
    # The image of codes: its green and red are the number of a block's code, in eight bits each.
    stream.put((0, 1))
    eight, zero = (1, 3), (0, 3)
    order = [
        zero,
        zero,
        eight,
        *[zero] * 8,
        eight,
    ]  # lengths of the codes of 17, 18, 0, 1 to 5, 16, 6, 7, 8
    stream.put((0, 1), (8, 4), *order, (0, 1), *[(1, 1)] * 256, *[(0, 1)] * 24)
    stream.put((0, 1), (8, 4), *[zero] * 11, eight, (0, 1))
    stream.put(*single * 3)
    reverse = [int(f"{byte:08b}"[::-1], 2) for byte in range(256)]
    for block in range(blocks):
        stream.put((reverse[block % 256], 8), (reverse[block // 256 % 256], 8))
    # Green: 2,048 symbols of eleven bits, which take a table of 2,304 entries.
    green = ((0, 1), (11, 4), *[zero] * 14, eight, (1, 1), (5, 3), (2046, 12))
    for _ in range(min(blocks, 65_536)):
        stream.put(*green, *single * 4)
    stream.put(*[(0, 11)] * side**2, (0, 7))
    content = bytes(stream.content) + bytes(len(stream.content) % 2)
    body = b"WEBPVP8L" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def refused(scale: float = 1.0) -> dict[str, bytes]:
    """Files that take from a second to minutes, each by another way; a smaller scale makes smaller ones."""

    def many(count: int) -> int:
        return int(scale * count)

    return {
        "300 scans": jpeg_of_scans(300, max(1100, many(SIDE))),
        "65 scans": jpeg_of_scans(65, 1100),
        "100,000 scans of few pixels": jpeg_of_scans(many(100_000), 64),
        "1,000,000 chunks": png(64, 64, chunk(b"abCd", b"") * many(1_000_000)),
        "900 compressed texts": png(64, 64, compressed_texts(max(9, many(900)))),
        "900 compressed texts in Unicode": png(
            64, 64, compressed_texts(max(9, many(900)), b"iTXt")
        ),
        "120,000 comments": gif(b"!\xfe" + b"\x01x" * many(120_000) + b"\0"),
        "100,000 blocks of pixels": gif(data=b"\x01\x44" * many(100_000) + b"\0"),
    }


def ordinary() -> dict[str, bytes]:
    """Files that people have: progressive, with metadata, with pixels in many pieces."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (1000, 1000, 3), np.uint8))
    files = {}
    for name, kind, settings in (
        ("progressive JPEG", "JPEG", {"progressive": True, "quality": 95}),
        ("PNG in chunks of 8 KiB", "PNG", {"compress_level": 1}),
        ("GIF of noise", "GIF", {}),
    ):
        buffer = io.BytesIO()
        noise.save(buffer, kind, **settings)
        files[name] = buffer.getvalue()
    texts = b"".join(chunk(b"tEXt", b"key%d\0value" % i) for i in range(500))
    files["PNG with 500 texts"] = png(64, 64, texts)
    files["PNG with compressed metadata"] = png(64, 64, compressed_texts(2) + compressed_texts(5))
    files["JPEG of 64 scans"] = jpeg_of_scans(64 - 10, 32)
    return files


def heaviest() -> dict[str, tuple[bytes, float]]:
    """What asks for the most work of what is read, and its megapixels."""
    webp = io.BytesIO()
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (100, 100, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    Image.fromarray(tiles).save(webp, "WEBP", lossless=True, method=0)
    return {
        "JPEG of 60 scans": (jpeg_of_scans(50), SIDE**2 / 1e6),
        "PNG of 64 bits per pixel": (png(3000, 3000, color=6, bits=16), 9.0),
        "narrow PNG with alpha": (png(17, 1_000_000, color=6), 17.0),
        "PNG of 1,000 chunks": (png(64, 64, chunk(b"abCd", b"") * 990), 1.0),
        "PNG of 8 compressed texts": (png(64, 64, compressed_texts(7)), 1.0),
        "GIF of 1,000 comments": (gif(b"!\xfe" + b"\x01x" * 990 + b"\0"), 1.0),
        "WebP": (webp.getvalue(), 16.0),
    }
