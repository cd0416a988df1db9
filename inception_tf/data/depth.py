# SPDX-License-Identifier: Apache-2.0
"""PNGs of 16 bits that use fewer, as microscopes and X-ray detectors write them: shown as they are, they are black."""

from __future__ import annotations

import numpy as np

from inception_tf.data.sources.splits import Records, Split
from inception_tf.errors import UserError
from inception_tf.host.files import open_regular

__all__ = ["depth_warning"]

SAMPLE = 32  # images whose headers are read
DECODED = 8  # of them are decoded
HEADER = 26  # bytes of a PNG up to its color type
MAGIC = b"\x89PNG\r\n\x1a\n"
DEPTH = 24  # offset of the bits per sample
# An image may be dark by chance, by one bit; not all of a sample by three.
UNUSED_BITS = 2


def depth_warning(split: Split) -> str | None:
    """What is to be said of the bits that a split's images use, by a sample of them.

    Args:
        split: The images.

    Returns:
        A sentence if images of 16 bits use clearly fewer bits than `split.bits`, or more; else None.
    """
    used = _used_bits(split)
    if used is None:
        return None
    if used > split.bits:
        return (
            f"images of 16 bits use {used} of them, and what exceeds data.bits={split.bits} becomes white;"
            f" use --set data.bits={used}"
        )
    if used <= split.bits - UNUSED_BITS:
        return (
            f"images of 16 bits use {used} of them, and are shown {1 << (split.bits - used)} times too dark;"
            f" if that is their range, use --set data.bits={max(used, 8)}"
        )
    return None


def _used_bits(split: Split) -> int | None:
    """Bits of the highest value in a sample; None if there are no images of 16 bits."""
    found: list[bytes] = []
    for index in _sample(split):
        if len(found) == DECODED:
            break
        try:
            data = _read(split, index, HEADER)
            if data[: len(MAGIC)] == MAGIC and data[DEPTH : DEPTH + 1] == b"\x10":
                found.append(_read(split, index, None))
        except UserError:
            continue  # the pass over all images reports it
    if not found:
        return None
    import tensorflow as tf

    highest = 0
    for data in found:
        try:
            highest = max(highest, int(tf.reduce_max(tf.image.decode_png(data, dtype=tf.uint16))))
        except tf.errors.OpError:
            continue
    return highest.bit_length() or None


def _sample(split: Split) -> list[int]:
    """Indices of images that may be PNGs, evenly spaced."""
    if split.origin or split.decoded:
        return []
    candidates = np.arange(len(split))
    if not isinstance(split.images, Records) and split.images.dtype != object:
        candidates = candidates[np.char.endswith(np.char.lower(split.images), ".png")]
    if not len(candidates):
        return []
    chosen = np.linspace(0, len(candidates) - 1, min(SAMPLE, len(candidates))).astype(int)
    return candidates[chosen].tolist()


def _read(split: Split, index: int, size: int | None) -> bytes:
    """The first bytes of an encoded image."""
    if isinstance(split.images, Records):
        from inception_tf.data.loading import encoded_reader

        return encoded_reader(split.take([index]))(0).numpy()[:size]
    if split.images.dtype == object:
        return split.images[index][:size]
    with open_regular(str(split.images[index])) as stream:
        return stream.read(-1 if size is None else size)
