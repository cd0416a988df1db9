# SPDX-License-Identifier: Apache-2.0
"""Images that this package and the tools of FID decode to different pixels, recognized by their headers."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["RULES", "image_kinds"]

GRAY, ALPHA, DEEP, TURNED, CMYK = "grayscale", "alpha", "16 bits", "rotated", "CMYK"

# Kind → how it becomes three channels of 8 bits here, and in Pillow's `convert("RGB")`, which the tools call.
RULES = {
    GRAY: "grayscale: the one channel is repeated three times, as in Pillow",
    ALPHA: "transparent: composited on white; Pillow's convert('RGB'), which the tools call, drops the alpha",
    DEEP: "16 bits: the highest 8 bits are kept; Pillow's convert('RGB') cuts values off at 255 where gray",
    TURNED: "rotated by EXIF: turned upright; the tools leave them as stored",
    CMYK: "CMYK: converted as libjpeg's inverted CMYK, as in Pillow",
}
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
EXIF, APP1, SCAN = b"Exif\0\0", 0xE1, 0xDA
ORIENTATION = 0x0112
# Of a PNG's header.
DEPTH, COLOR = 24, 25
PNG_GRAY, PNG_GRAY_ALPHA, PNG_RGBA = 0, 4, 6
WEBP_EXTENDED, WEBP_LOSSLESS, WEBP_ALPHA, WEBP_EXIF = b"VP8X", b"VP8L", 0x10, 0x08


def image_kinds(content: bytes) -> list[str]:
    """Recognizes what makes the pixels of an image a matter of rules.

    Args:
        content: An encoded image, whole or damaged.

    Returns:
        Keys of `RULES`; none for a usual image of three channels, and for what is no image.
    """
    try:
        if content.startswith(PNG):
            return list(_of_png(content))
        if content.startswith(JPEG):
            return list(_of_jpeg(content))
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return list(_of_webp(content))
    except (IndexError, ValueError, struct.error):
        pass  # damaged, which decoding says
    return []


def _of_png(content: bytes) -> Iterator[str]:
    color = content[COLOR]
    if color in (PNG_GRAY, PNG_GRAY_ALPHA):
        yield GRAY
    if color in (PNG_GRAY_ALPHA, PNG_RGBA) or b"tRNS" in content[: content.find(b"IDAT")]:
        yield ALPHA
    if content[DEPTH] == 16:
        yield DEEP
    exif = content.find(b"eXIf")
    if exif > 0 and _orientation(content[exif + 4 :]) > 1:
        yield TURNED


def _of_jpeg(content: bytes) -> Iterator[str]:
    place = 2
    while content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        start = place + 4
        if marker in FRAMES:
            channels = content[start + 5]
            if channels in (1, 4):
                yield GRAY if channels == 1 else CMYK
        elif marker == APP1 and content[start : start + 6] == EXIF:
            if _orientation(content[start + 6 : place + 2 + length]) > 1:
                yield TURNED
        elif marker == SCAN:
            return
        place += 2 + length


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    for number in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * number)
        if tag == ORIENTATION and kind == 3:
            return value if 1 <= value <= 8 else 1
    return 1


def _of_webp(content: bytes) -> Iterator[str]:
    form, flags = content[12:16], content[20]
    # Of a lossless image alone, the bit after two sizes of 14 bits.
    if (form == WEBP_EXTENDED and flags & WEBP_ALPHA) or (
        form == WEBP_LOSSLESS and content[24] & WEBP_ALPHA
    ):
        yield ALPHA
    if form == WEBP_EXTENDED and flags & WEBP_EXIF:
        tiff = content[content.index(b"EXIF") + 8 :]
        if _orientation(tiff.removeprefix(EXIF)) > 1:
            yield TURNED
