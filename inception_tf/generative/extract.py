# SPDX-License-Identifier: Apache-2.0
"""Features of a set of images: computed batch by batch, summed as they come, and kept by content."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import tensorflow as tf

from inception_tf.data.pipeline import evaluation_batches
from inception_tf.data.skipped import BadImages
from inception_tf.errors import UserError, printable
from inception_tf.generative.images import PART, ImageSet
from inception_tf.generative.network import FeatureNetwork
from inception_tf.generative.resizing import ResizeLikeTool
from inception_tf.generative.statistics import FeatureStatistics, Notes
from inception_tf.host.atomic_io import atomic_path, atomic_write_text
from inception_tf.host.files import cache_folder
from inception_tf.host.progress import progress_bar

__all__ = ["Extracted", "Wanted", "extract_features", "pixel_batches", "read_kept", "write_kept"]

FOLDER = "fid"  # in the cache folder

log = logging.getLogger("inception_tf")


@dataclass(frozen=True)
class Wanted:
    """What is to be computed of a set."""

    statistics: tuple[str, ...]  # taps whose mean and covariance are summed; memory does not grow
    features: tuple[str, ...]  # taps whose features are all held in memory

    @property
    def taps(self) -> tuple[str, ...]:
        """All taps, each once."""
        return tuple(dict.fromkeys((*self.statistics, *self.features)))


@dataclass
class Extracted:
    """What was computed of a set."""

    statistics: dict[str, FeatureStatistics] = field(default_factory=dict)  # by tap
    features: dict[str, np.ndarray] = field(default_factory=dict)  # tap → (N, D) float32
    images: int = 0
    skipped: dict[str, str] = field(default_factory=dict)  # name → why it could not be read
    seconds: float = 0.0
    kept: bool = False  # read from the cache


def extract_features(
    images: ImageSet,
    network: FeatureNetwork,
    step: ResizeLikeTool,
    wanted: Wanted,
    notes: Notes,
) -> Extracted:
    """Computes the features of all images of a set that can be read.

    Args:
        images: The set.
        network: Of all taps in `wanted`.
        step: The resize and the scale of a tool.
        wanted: What is to be computed.
        notes: What is written into the statistics, but for the tap.

    Returns:
        The statistics and features, in the order of the images.

    Raises:
        UserError: None of the images can be read.
    """
    started = time.monotonic()
    found = Extracted(
        {tap: FeatureStatistics(Notes(tap, notes.tool, notes.weights)) for tap in wanted.statistics}
    )
    rows: dict[str, list[np.ndarray]] = {tap: [] for tap in wanted.features}
    with progress_bar(images.count, images.name, leave=False) as bar:
        for pixels in pixel_batches(images, step, network.batch_size, found.skipped):
            features = network(pixels)
            for tap, statistics in found.statistics.items():
                statistics.update(features[tap])
            for tap, kept in rows.items():
                kept.append(features[tap])
            found.images += len(pixels)
            bar.update(len(pixels))
    if not found.images:
        reasons = [f"{name} ({reason})" for name, reason in list(found.skipped.items())[:3]]
        raise UserError(
            f"none of the images of {printable(images.name)} can be read: {', '.join(reasons) or 'there are none'}"
        )
    found.features = {tap: np.concatenate(parts) for tap, parts in rows.items()}
    found.seconds = time.monotonic() - started
    return found


def pixel_batches(
    images: ImageSet, step: ResizeLikeTool, batch_size: int, skipped: dict[str, str]
) -> Iterator[np.ndarray]:
    """The images as the network takes them.

    Args:
        images: The set.
        step: The resize and the scale.
        batch_size: Images per batch; the last may have fewer.
        skipped: Gets the names of the images that cannot be read, with the reason.

    Yields:
        (N, 299, 299, 3) float32.

    Raises:
        UserError: A file was lost while it was read.
    """
    if images.split is None:
        yield from _resized(_uint8(images), step, batch_size)
        return
    bad = BadImages(images.split, 1.0)
    try:
        for pixels, _ in evaluation_batches(images.split, (step,), batch_size=batch_size, bad=bad):
            yield pixels.numpy()
    except tf.errors.OpError as error:
        raise bad.failure() or error from error
    finally:
        skipped |= bad.reasons


def _uint8(images: ImageSet) -> Iterator[np.ndarray]:
    if images.array is not None:
        array = images.array
        return (array[start : start + PART] for start in range(0, len(array), PART))
    assert images.stream is not None
    return images.stream()


@cache
def _compiled(step: ResizeLikeTool) -> Callable[[np.ndarray], tf.Tensor]:
    """The resize as a graph, made once, for generators are measured again and again."""
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
    return tf.function(step, autograph=False, input_signature=signature)


def _resized(
    batches: Iterator[np.ndarray], step: ResizeLikeTool, batch_size: int
) -> Iterator[np.ndarray]:
    resize = _compiled(step)
    waiting = np.zeros((0, 0), np.float32)
    for batch in batches:
        # A few at a time: 299 pixels of float32 are a megabyte.
        for start in range(0, len(batch), batch_size):
            pixels = resize(batch[start : start + batch_size]).numpy()
            waiting = np.concatenate([waiting, pixels]) if len(waiting) else pixels
            if len(waiting) >= batch_size:
                yield waiting[:batch_size]
                waiting = waiting[batch_size:]
    if len(waiting):
        yield waiting


def read_kept(key: str, images: ImageSet, wanted: Wanted) -> Extracted | None:
    """Features that an earlier call kept.

    Args:
        key: Of the images' content and of all that their features depend on.
        images: The set, for the names of skipped images.
        wanted: What is needed.

    Returns:
        All of it, or None where a part is missing or damaged.
    """
    folder = cache_folder() / FOLDER
    try:
        facts = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        statistics = {
            tap: FeatureStatistics.read(folder / f"{key}-{tap}.npz") for tap in wanted.statistics
        }
        features = {
            tap: np.load(folder / f"{key}-{tap}.npy", allow_pickle=False) for tap in wanted.features
        }
        skipped = {_name(images, int(row)): str(why) for row, why in facts["skipped"].items()}
        count = int(facts["images"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    if any(len(one) != count for one in features.values()):
        return None
    return Extracted(statistics, features, count, skipped, kept=True)


def write_kept(key: str, images: ImageSet, found: Extracted) -> None:
    """Keeps features in the cache folder; where that fails, it is logged.

    Args:
        key: As for `read_kept`.
        images: The set.
        found: What was computed of it.
    """
    folder = cache_folder() / FOLDER
    rows = {_name(images, row): row for row in _rows_of(images, found.skipped)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for tap, statistics in found.statistics.items():
            if statistics.count and statistics.count > 1:
                statistics.write(folder / f"{key}-{tap}.npz")
        for tap, features in found.features.items():
            with (
                atomic_path(folder / f"{key}-{tap}.npy") as temporary,
                open(temporary, "wb") as file,
            ):
                np.save(file, features)
        skipped = {rows[name]: why for name, why in found.skipped.items() if name in rows}
        atomic_write_text(
            folder / f"{key}.json", json.dumps({"images": found.images, "skipped": skipped})
        )
    except OSError as error:
        log.warning("features are not kept: cannot write to %s: %s", folder, error.strerror)


def _name(images: ImageSet, row: int) -> str:
    return images.split.describe(row) if images.split is not None else f"image {row}"


def _rows_of(images: ImageSet, skipped: dict[str, str]) -> Sequence[int]:
    """The rows that may be those of skipped images."""
    return range(images.count or 0) if skipped else ()
