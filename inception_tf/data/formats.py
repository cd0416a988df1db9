# SPDX-License-Identifier: Apache-2.0
"""The image formats that are read: one list for listing, checking, training, evaluation and serving.  No TensorFlow."""

from __future__ import annotations

from pathlib import PurePath

__all__ = [
    "ENDINGS",
    "FORMATS",
    "FORMAT_NAMES",
    "NOT_AN_IMAGE",
    "conversion_of",
    "ending_of",
    "is_image_name",
]

# Format → endings of its files.  The content decides how a file is decoded; the ending, whether it is listed.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
FORMAT_NAMES = f"{', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}"
NOT_AN_IMAGE = f"not a {FORMAT_NAMES} image"  # status of an image
# Endings of formats that TensorFlow does not read, which a converter turns into one that it does.
CONVERTED = (".heic", ".heif", ".avif", ".tif", ".tiff", ".jp2", ".jxl", ".psd")


def ending_of(name: str) -> str:
    """The ending of a file's name in small letters.

    Args:
        name: str. The name of a file, or its path.

    Returns:
        Such as `.jpg`; empty if there is none.
    """
    return PurePath(name).suffix.lower()


def is_image_name(name: str) -> bool:
    """Whether a file is listed as an image because of its ending.

    Args:
        name: str. The name of the file.

    Returns:
        True for the endings of `FORMATS`, in any case.
    """
    return name.lower().endswith(ENDINGS)


def conversion_of(ending: str) -> str | None:
    """The command that converts images of a format that is not read.

    Args:
        ending: str. What `ending_of` returned.

    Returns:
        A line for a shell, of ImageMagick; None if no image has such an ending.
    """
    if ending not in CONVERTED:
        return None
    return f"magick mogrify -format jpg -auto-orient *{ending}"
