# SPDX-License-Identifier: Apache-2.0
"""Which image is shown when, and with which seed: functions of the run's seed and the position alone."""

from __future__ import annotations

import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError

__all__ = [
    "BATCH_STREAM",
    "BOX_STREAM",
    "PIXEL_STREAM",
    "REDRAW_STREAM",
    "fold_in",
    "places",
    "seed_for",
    "steps_per_epoch",
]

# Which use of the run's seed.
STREAMS = 5
SHUFFLE_STREAM, BOX_STREAM, PIXEL_STREAM, BATCH_STREAM, REDRAW_STREAM = range(STREAMS)
PARTS = 64  # of an epoch, for the workers of a tf.data service to take


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Whole batches in one pass; the few images left over are others in each epoch."""
    steps = len(split) // batch_size
    if not steps:
        raise UserError(
            f"data.batch_size {batch_size} is more than the {len(split)} training images;"
            f" take --set data.batch_size={len(split)} or less"
        )
    return steps


def places(
    split: Split, config: DataConfig, seed: int, share: tuple[int, int], *, start: int, epochs: int
) -> tf.data.Dataset:
    """What is shown when: (position, index), both () int64, from step `start` on, of a share of each batch."""
    worker, workers = share
    size, steps = config.batch_size, len(split) // config.batch_size
    rows = slice(size * worker // workers, size * (worker + 1) // workers)
    # A service's workers take parts of an epoch, each of which is permuted anew to cut the part out.
    parts = min(PARTS, steps) if config.service else 1
    # Going on beyond the last epoch, what a lost worker of the service took with it is made up for.
    last = tf.int64.max if config.service else epochs * parts

    def places_in(number):
        epoch, part = number // parts, number % parts
        order = _order(len(split), steps, size, seed_for(seed, SHUFFLE_STREAM, epoch))
        positions = tf.reshape(tf.range(steps * size, dtype=tf.int64), order.shape)
        begin, end = steps * part // parts, steps * (part + 1) // parts
        begin = tf.clip_by_value(start - epoch * steps, begin, end)
        both = (positions + epoch * steps * size, order)
        return tf.data.Dataset.from_tensor_slices(
            tuple(tf.reshape(values[begin:end, rows], (-1,)) for values in both)
        )

    return tf.data.Dataset.range(start // steps * parts, last).flat_map(places_in)


def _order(count: int, steps: int, batch_size: int, seed):
    """A permutation of `count` images, what fills whole batches of it: (steps, batch_size) int64."""
    # Not index_shuffle, which needs no memory: on small sets its permutations repeat themselves,
    # pairs of images meet half as often again as by chance.
    order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)
    return tf.reshape(order[: steps * batch_size], (steps, batch_size))


def seed_for(seed: int, stream: int, number):
    """A seed (2,) int64 of its own for a use of the run's seed and an epoch, a step or a position."""
    return tf.stack([tf.constant(seed * STREAMS + stream, tf.int64), number])


def fold_in(seed, number):
    return tf.random.experimental.stateless_fold_in(seed, number)
