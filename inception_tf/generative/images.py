# SPDX-License-Identifier: Apache-2.0
"""Sets of images, from wherever they come: files, TFRecords, arrays, generator functions, tf.data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from inception_tf.data.sources.file_checks import check_file
from inception_tf.data.sources.images import find_images
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.splits import ALL, Split
from inception_tf.errors import UserError, printable
from inception_tf.generative.records import open_records

__all__ = ["PART", "ImageSet", "ImagesLike", "first_images", "open_images"]

# What `open_images` takes.
ImagesLike: TypeAlias = (
    str | os.PathLike[str] | Sequence[str] | np.ndarray | Iterable[Any] | Callable[[], Any]
)
SOURCES = ("tfds:", "csv:", "folder:")  # of `open_source`, whose images are all taken
RECORDS = "tfrecord:"
PART = 256  # images of an array that are looked at together
RANGES = {(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)}


@dataclass(frozen=True)
class ImageSet:
    """Images that can be read by index, or one after another."""

    name: str
    split: Split | None = None  # encoded images, of which any can be read by its index
    # (N, H, W, 3) uint8, in memory
    array: np.ndarray | None = None
    stream: Callable[[], Iterator[np.ndarray]] | None = None  # of (N, H, W, 3) uint8 batches
    # path → why a file of the folder is not read
    unread: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """How many images there are, the damaged ones included; None where that shows only at the end."""
        if self.split is not None:
            return len(self.split)
        return None if self.array is None else len(self.array)


def open_images(
    source: ImagesLike,
    *,
    value_range: tuple[float, float] | None = None,
    count: int | None = None,
    key: str | None = None,
    bits: int = 16,
) -> ImageSet:
    """Opens a set of images; nothing is decoded yet.

    Args:
        source: A folder, for all images below it, a pattern or a file; `tfrecord:GLOB`, `tfds:NAME`, `csv:FILE` or
            `folder:PATH`; a list of paths; an array (N, H, W, 3) or (N, H, W, 1); a function without arguments that
            returns an iterator, such as a generator function, or an iterable, such as a `tf.data.Dataset`, of images
            or of batches of them, or of tuples that begin with them.
        value_range: The range of numbers of other types than uint8: (0, 1), (-1, 1) or (0, 255).  They are rounded to
            the levels of uint8, as an image file has them.
        count: Use the first `count` images only; needed where a generator does not end.
        key: The feature of TFRecords with the encoded image; None: `image/encoded` or `image`.
        bits: int from 8 to 16. Bits that samples of 16 bits use.

    Returns:
        The images, in the order of their names.

    Raises:
        UserError: There are no such images, or values without a known range.

    Example:

        images = open_images("samples/")
    """
    if isinstance(source, str | os.PathLike):
        return _limited(_of_name(os.fspath(source), key, bits), count)
    if isinstance(source, np.ndarray):
        found = _Pixels(value_range)(source) if len(source) else source
        return _limited(ImageSet("array", array=_checked(found)), count)
    if isinstance(source, Sequence) and all(isinstance(one, str | os.PathLike) for one in source):
        return _limited(_of_files("files", [os.fspath(one) for one in source], {}, bits), count)
    make = source if callable(source) else _again(source)
    name = getattr(source, "__name__", None) or type(source).__name__
    return ImageSet(name, stream=lambda: _batches(make(), _Pixels(value_range), count))


def _again(source: Iterable[Any]) -> Callable[[], Iterable[Any]]:
    """A function that gives the items, again and again; of a generator only once."""
    if iter(source) is not source:
        return lambda: source
    left = [source]

    def once() -> Iterable[Any]:
        if not left:
            raise UserError(
                "a generator's images can be read only once, and are needed again; give the function that makes it"
            )
        return left.pop()

    return once


def _of_name(name: str, key: str | None, bits: int) -> ImageSet:
    if name.startswith(RECORDS):
        return ImageSet(name, open_records(os.path.expanduser(name[len(RECORDS) :]), key, bits))
    if key:
        raise UserError(f"--key names a feature of tfrecord: data; {printable(name)} has none")
    if name.startswith(SOURCES):
        source = open_source(name, bits=bits)
        split = source.split(ALL)
        if split.decoded:
            return ImageSet(name, array=split.images)
        return ImageSet(name, split, unread=dict(source.unread), notes=source.warnings)
    files = find_images([name])
    unread = _unread(name, set(files)) if os.path.isdir(name) else {}
    return _of_files(name, files, unread, bits)


def _of_files(name: str, files: list[str], unread: dict[str, str], bits: int) -> ImageSet:
    # What is no regular file, and would block or never end, is not opened.
    checked = {file: check_file(file).reason for file in files}
    good = [file for file, reason in checked.items() if reason is None]
    others = {file: reason for file, reason in checked.items() if reason is not None}
    named = {
        file: reason for file, reason in others.items() if not reason.startswith("other ending")
    }
    # A file that was named itself is read, whatever it ends in.
    good += [file for file in others if file not in named]
    if not good:
        found = [f"{printable(file)} ({reason})" for file, reason in list(named.items())[:3]]
        raise UserError(f"{printable(name)} has no image that can be read: {', '.join(found)}")
    split = Split(np.array(sorted(good), str), np.zeros(len(good), np.int64), bits=bits)
    return ImageSet(name, split, unread=unread | named)


def _unread(folder: str, images: set[str]) -> dict[str, str]:
    """The files below a folder that are no images, with the reason."""
    found = {}
    for parent, _, files in os.walk(folder):
        for file in files:
            path = os.path.join(parent, file)
            if path not in images:
                hidden = "hidden: .*" if file.startswith(".") else None
                found[path] = hidden or check_file(path).reason or "no image"
    return found


def _limited(images: ImageSet, count: int | None) -> ImageSet:
    if count is None or images.count is None or count >= images.count:
        return images
    split = images.split.take(np.arange(count)) if images.split is not None else None
    array = images.array[:count] if images.array is not None else None
    note = f"the first {count:,} of {images.count:,} images"
    return ImageSet(images.name, split, array, unread=images.unread, notes=(*images.notes, note))


class _Pixels:
    """Numbers of a stated range as uint8."""

    def __init__(self, value_range: tuple[float, float] | None) -> None:
        self.range = value_range
        if value_range is not None and tuple(map(float, value_range)) not in RANGES:
            raise UserError(
                f"value_range must be (0, 1), (-1, 1) or (0, 255), got {tuple(value_range)!r}"
            )

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N, H, W, C) of any type → (N, H, W, 3) uint8."""
        if values.dtype != np.uint8:
            values = self._levels(values)
        return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values

    def _levels(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind not in "fiu":
            raise UserError(f"images must be numbers, got {values.dtype}")
        if self.range is None:
            raise UserError(
                f"images of {values.dtype} need their range: give value_range=(0, 1), (-1, 1) or (0, 255)"
            )
        low, high = self.range
        scaled = (np.asarray(values, np.float32) - low) * (255.0 / (high - low))
        least, most = float(scaled.min()), float(scaled.max())
        # A level more than the ends is rounding, or an overshoot of the generator's own resize.
        if not (np.isfinite((least, most)).all() and least > -1.5 and most < 256.5):
            raise UserError(
                f"images have values from {values.min():.4g} to {values.max():.4g}, beyond the stated range"
                f" ({low:g}, {high:g}); give the right value_range, or cut them off as your image files do"
            )
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _checked(values: np.ndarray) -> np.ndarray:
    if values.ndim != 4 or values.shape[-1] not in (1, 3) or not values.size:
        hint = (
            "; move the channels to the end"
            if values.ndim == 4 and values.shape[1] in (1, 3)
            else ""
        )
        raise UserError(
            f"images must have the shape (N, H, W, 3) or (N, H, W, 1), got {values.shape}{hint}"
        )
    return values


def _batches(items: Iterable[Any], pixels: _Pixels, count: int | None) -> Iterator[np.ndarray]:
    """Batches of images, of at most `PART`, from an iterable of images or of batches."""
    left = count
    for item in items:
        if left is not None and left <= 0:
            return
        values = np.asarray(item[0] if isinstance(item, tuple | list) else item)
        values = values[np.newaxis] if values.ndim == 3 else values
        found = pixels(_checked(values))
        if left is not None:
            found = found[:left]
            left -= len(found)
        yield from (found[start : start + PART] for start in range(0, len(found), PART))


def first_images(images: ImageSet, count: int) -> ImageSet:
    """Some of the images, evenly spaced; of a stream the first.

    Args:
        images: All images.
        count: How many.

    Returns:
        The subset.
    """
    total = images.count
    if total is None:
        make = images.stream
        assert make is not None

        def some() -> Iterator[np.ndarray]:
            left = count
            for batch in make():
                yield batch[:left]
                left -= len(batch)
                if left <= 0:
                    return

        return ImageSet(images.name, stream=some)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
    if images.split is not None:
        return ImageSet(images.name, images.split.take(chosen))
    assert images.array is not None
    return ImageSet(images.name, array=images.array[chosen])
