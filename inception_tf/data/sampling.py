# SPDX-License-Identifier: Apache-2.0
"""The order of the training images and their seeds: functions of the run's seed and the position alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.loading import sequence_reader
from inception_tf.data.sources.splits import Records, Split
from inception_tf.errors import UserError

__all__ = [
    "BATCH_STREAM",
    "CROP_STREAM",
    "PIXEL_STREAM",
    "REDRAW_STREAM",
    "block_order",
    "fold_in",
    "sample_order",
    "seed_for",
    "steps_per_epoch",
]

# Independent random streams of one run.
STREAMS = 5
SHUFFLE_STREAM, CROP_STREAM, PIXEL_STREAM, BATCH_STREAM, REDRAW_STREAM = range(STREAMS)
BLOCK = 64  # neighboring records that a block shuffle reads at once: 7 MB of ImageNet
PARTS = 64  # of an epoch, the work units of a tf.data service


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """The number of full batches in one epoch; the remaining images differ between epochs.

    Args:
        split: The training images.
        batch_size: int. Images per step.

    Returns:
        At least 1.

    Raises:
        UserError: A batch is larger than the split.
    """
    steps = len(split) // batch_size
    if not steps:
        raise UserError(
            f"data.batch_size {batch_size} is more than the {len(split)} training images;"
            f" use --set data.batch_size={len(split)} or less"
        )
    return steps


def sample_order(
    split: Split, config: DataConfig, seed: int, shard: tuple[int, int], *, start: int, epochs: int
) -> tf.data.Dataset:
    """The order of the training images.

    Args:
        split: The training images.
        config: The `data` section of a configuration.
        seed: int. The run's seed.
        shard: (index, count): which part of each batch, of how many.
        start: int. The first step.
        epochs: int. The end, counted from step 0.

    Returns:
        Elements (position, index), both () int64: the position in the run and the image's index in the split.
    """
    worker, workers = shard
    size, steps = config.batch_size, len(split) // config.batch_size
    rows = slice(size * worker // workers, size * (worker + 1) // workers)
    # A service's workers process parts of an epoch; for each part the epoch is permuted again.
    parts = min(PARTS, steps) if config.service else 1
    # More epochs than needed replace the elements that a lost worker of the service took with it.
    last = tf.int64.max if config.service else epochs * parts

    if config.balance:
        epoch_order = _balanced_order(split.classes, steps, size)
    elif config.shuffle == "weak":
        epoch_order = _weak_order(len(split), steps, size, seed)
    else:
        epoch_order = partial(_order, len(split), steps, size)

    def part_order(number):
        epoch, part = number // parts, number % parts
        order = epoch_order(seed_for(seed, SHUFFLE_STREAM, epoch))
        positions = tf.reshape(tf.range(steps * size, dtype=tf.int64), order.shape)
        begin, end = steps * part // parts, steps * (part + 1) // parts
        begin = tf.clip_by_value(start - epoch * steps, begin, end)
        both = (positions + epoch * steps * size, order)
        return tf.data.Dataset.from_tensor_slices(
            tuple(tf.reshape(values[begin:end, rows], (-1,)) for values in both)
        )

    return tf.data.Dataset.range(start // steps * parts, last).flat_map(part_order)


def block_order(
    split: Split, config: DataConfig, seed: int, shard: tuple[int, int], *, start: int, epochs: int
) -> tf.data.Dataset:
    """An order of the training images in which records are read in sequence, for slow or remote storage.

    Blocks of 64 neighboring records are read at once, in another order in each epoch, and the images of
    `data.shuffle_images / 64` blocks are mixed.  Every epoch has every image once, but for the incomplete batch.

    Args:
        split: The training images, records.
        config: The `data` section of a configuration.
        seed: int. The run's seed.
        shard: (index, count): which part of each batch, of how many; each reads all records.
        start: int. The first step.
        epochs: int. The end, counted from step 0.

    Returns:
        Elements (position, index, record): as `sample_order` has them, and the record, () string, empty if its
        block cannot be read.

    Raises:
        UserError: The images are no records.
    """
    records = split.images
    if not isinstance(records, Records):
        raise UserError(
            "data.shuffle=block reads the records of tfrecord: and tfds: data in sequence; use data.shuffle=full"
        )
    worker, workers = shard
    size, steps = config.batch_size, len(split) // config.batch_size
    rows = size * worker // workers, size * (worker + 1) // workers
    files, numbers = records.locations[:, 0], records.locations[:, 1] // BLOCK
    changes = (np.diff(files) != 0) | (np.diff(numbers) != 0)
    bounds = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(split)]])
    first, end = tf.constant(bounds[:-1]), tf.constant(bounds[1:])
    read = sequence_reader(records)
    mixed = config.shuffle_images

    def read_block(block):
        indices = tf.range(first[block], end[block])
        return tf.data.Dataset.from_tensor_slices((indices, read(indices)))

    def mix(window_seed, window, indices, found):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.size(indices)), fold_in(window_seed, window)
        )
        return tf.gather(indices, order), tf.gather(found, order)

    def epoch_order(epoch):
        epoch_seed = seed_for(seed, SHUFFLE_STREAM, epoch)
        blocks = tf.random.experimental.stateless_shuffle(
            tf.range(len(bounds) - 1, dtype=tf.int64), epoch_seed
        )
        begin = tf.maximum(start - epoch * steps, 0) * size
        # Windows before the first step are not read.
        skipped = begin // mixed * mixed
        ends = tf.cumsum(tf.gather(end - first, blocks))
        block = tf.searchsorted(ends, skipped[tf.newaxis], side="right")[0]
        before = tf.where(block > 0, ends[tf.maximum(block - 1, 0)], 0)
        windows = (
            tf.data.Dataset.from_tensor_slices(blocks[block:])
            .interleave(read_block, cycle_length=1, num_parallel_calls=1)
            .skip(skipped - before)
            .batch(mixed)
            .enumerate(skipped // mixed)
            .map(lambda window, item: mix(epoch_seed, window, *item))
            .prefetch(1)
            .unbatch()
        )
        return (
            windows.enumerate(skipped)
            .skip(begin - skipped)
            .take(steps * size - begin)
            .map(lambda number, item: (epoch * steps * size + number, *item))
        )

    order = tf.data.Dataset.range(start // steps, epochs).flat_map(epoch_order)
    if workers > 1:
        order = order.filter(
            lambda position, index, record: (
                (position % size >= rows[0]) & (position % size < rows[1])
            )
        )
    return order


def _order(count: int, steps: int, batch_size: int, seed: tf.Tensor) -> tf.Tensor:
    """A permutation of `count` images without the incomplete batch: (steps, batch_size) int64."""
    # Not index_shuffle, which needs no memory: on small sets its permutations are not independent, and
    # pairs of images share a batch 1.5 times as often as by chance.
    order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)
    return tf.reshape(order[: steps * batch_size], (steps, batch_size))


def _weak_order(
    count: int, steps: int, batch_size: int, seed: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Batches of the same images in every epoch, in another order: what the BN paper shuffles "more thoroughly" than.

    Ioffe and Szegedy 2015, section 4.2.1: shuffling prevents the same examples from always appearing together.
    """

    def order(epoch_seed: tf.Tensor) -> tf.Tensor:
        start = seed_for(seed, SHUFFLE_STREAM, tf.constant(0, tf.int64))
        batches = _order(count, steps, batch_size, start)
        rows = tf.random.experimental.stateless_shuffle(tf.range(steps), epoch_seed)
        return tf.gather(batches, rows)

    return order


def _balanced_order(
    classes: np.ndarray, steps: int, batch_size: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Images drawn with replacement: a class that has any, then one of its images, each with equal chances."""
    by_class = tf.constant(np.argsort(classes, kind="stable"), tf.int64)
    counts = np.bincount(classes)
    counts = tf.constant(counts[counts > 0], tf.int64)
    starts = tf.cumsum(counts, exclusive=True)

    def order(epoch_seed: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform((2, steps, batch_size), epoch_seed, dtype=tf.float64)
        chosen = tf.cast(draws[0] * tf.cast(tf.size(counts), tf.float64), tf.int64)
        many = tf.gather(counts, chosen)
        place = tf.cast(draws[1] * tf.cast(many, tf.float64), tf.int64)
        return tf.gather(by_class, tf.gather(starts, chosen) + place)

    return order


def seed_for(seed: int, stream: int, number: tf.Tensor) -> tf.Tensor:
    """A seed for one random stream of a run at an epoch, step or position.

    Args:
        seed: int. The run's seed.
        stream: int. One of the `*_STREAM` constants.
        number: () int64. The epoch, step or position.

    Returns:
        (2,) int64.
    """
    return tf.stack([tf.constant(seed * STREAMS + stream, tf.int64), number])


def fold_in(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """Derive a seed from another one.

    Args:
        seed: (2,) int.
        number: () int.

    Returns:
        (2,) int64.
    """
    return tf.random.experimental.stateless_fold_in(seed, number)
