# SPDX-License-Identifier: Apache-2.0
"""What can be said of images before any is decoded: their sums, and which of them a tool of FID would read otherwise."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from inception_tf.data.sources.splits import Records, Split
from inception_tf.errors import UserError, printable
from inception_tf.generative.images import ImageSet
from inception_tf.generative.kinds import image_kinds
from inception_tf.host.files import open_regular, retry_lost

__all__ = ["Shared", "Survey", "shared_images", "survey_images"]

THREADS = 8
PART = 256  # images that are looked at between two steps of the progress bar
LISTED = 3
UNREADABLE = np.uint64(0)  # in place of the sum of a file that cannot be read


@dataclass(frozen=True)
class Survey:
    """The sums of a set's images, and how many are of each kind."""

    digests: (
        np.ndarray
    )  # (N,) uint64, the first 8 bytes of the BLAKE2b sum of each image, encoded or as pixels
    kinds: dict[str, int]  # a key of `kinds.RULES` → how many images
    encoded: bool  # the sums are of files' contents, not of pixels

    @property
    def digest(self) -> str:
        """The sum of all images in their order, by which features are cached."""
        return hashlib.sha256(np.ascontiguousarray(self.digests)).hexdigest()


@dataclass(frozen=True)
class Shared:
    """Images of the first set that are in the second, too, byte by byte."""

    count: int
    pairs: tuple[tuple[str, str], ...]  # the names of some


def survey_images(
    images: ImageSet, on_images: Callable[[int], None] = lambda count: None
) -> Survey | None:
    """Reads all images of a set once, without decoding them.

    Args:
        images: The set.
        on_images: Called now and then with a number of images.

    Returns:
        The sums and kinds; None for a stream, whose images can only be read once.
    """
    if images.array is not None:
        sums = [_sum(image.tobytes()) for image in images.array]
        on_images(len(sums))
        shape = str(images.array.shape[1:]).encode()
        return Survey(np.array([_sum(shape), *sums], np.uint64), {}, encoded=False)
    if images.split is None:
        return None
    counts: Counter[str] = Counter()
    digests = []
    for content in _contents(images.split):
        digests.append(UNREADABLE if content is None else _sum(content))
        counts.update(image_kinds(content or b""))
        if len(digests) % PART == 0:
            on_images(PART)
    on_images(len(digests) % PART)
    return Survey(np.array(digests, np.uint64), dict(counts), encoded=True)


def shared_images(
    first: ImageSet, second: ImageSet, surveys: tuple[Survey | None, Survey | None]
) -> Shared | None:
    """Finds images that two sets share.

    Args:
        first: One set.
        second: The other.
        surveys: What `survey_images` returned for each.

    Returns:
        What they share; None where that cannot be told: of a stream, and of files beside pixels.
    """
    one, two = surveys
    if one is None or two is None or one.encoded != two.encoded:
        return None
    skip = 0 if one.encoded else 1  # the shape comes first
    ours, theirs = one.digests[skip:], two.digests[skip:]
    rows = np.flatnonzero(np.isin(ours, theirs) & (ours != UNREADABLE))
    place = {int(digest): row for row, digest in reversed(list(enumerate(theirs.tolist())))}
    pairs = [
        (_name(first, row), _name(second, place[int(ours[row])])) for row in rows[:LISTED].tolist()
    ]
    return Shared(len(rows), tuple(pairs))


def _name(images: ImageSet, row: int) -> str:
    return images.split.describe(row) if images.split is not None else f"image {row}"


def _sum(content: bytes) -> np.uint64:
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return max(np.uint64(1), np.frombuffer(digest, "<u8")[0])  # not `UNREADABLE`


def _contents(split: Split) -> Iterator[bytes | None]:
    """The encoded images in order; None for one that cannot be read."""
    if isinstance(split.images, Records):
        yield from _of_records(split)
        return
    paths = split.images.tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        # Part by part: a pool would read all files ahead.
        for start in range(0, len(paths), PART):
            yield from pool.map(_read, paths[start : start + PART])


def _read(path: str) -> bytes | None:
    try:
        with retry_lost(partial(open_regular, path)) as stream:
            return stream.read()
    except (UserError, OSError):
        return None  # the pass over the pixels names it


def _of_records(split: Split) -> Iterator[bytes | None]:
    import tensorflow as tf

    from inception_tf.data.decoding.images import with_fallback
    from inception_tf.data.loading import encoded_reader
    from inception_tf.data.tuning import untuned

    read = encoded_reader(split)
    found = tf.data.Dataset.range(len(split)).map(
        lambda index: with_fallback(read, index, tf.constant("")),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    for content in untuned(found.prefetch(PART)).as_numpy_iterator():
        yield content or None


def sentence_for_shared(shared: Shared, names: tuple[str, str]) -> str:
    """Says what two sets share.

    Args:
        shared: At least one image.
        names: Of the sets.

    Returns:
        A sentence.
    """
    listed = ", ".join(one if one == two else f"{one} = {two}" for one, two in shared.pairs)
    more = f" and {shared.count - len(shared.pairs):,} more" if shared.count > LISTED else ""
    images = "image" if shared.count == 1 else "images"
    return (
        f"{shared.count:,} {images} of {printable(names[0])} {'is' if shared.count == 1 else 'are'} also in"
        f" {printable(names[1])}, byte by byte, which makes the distance smaller: {listed}{more}"
    )
