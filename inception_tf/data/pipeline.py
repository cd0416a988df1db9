# SPDX-License-Identifier: Apache-2.0
"""A split into batches: the training stream, which can start at any step, and the evaluation pass."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data import augment, images
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources import Split
from inception_tf.errors import UserError

__all__ = ["evaluation", "first_bad_image", "steps_per_epoch", "training"]

SHUFFLE_STREAM, PIXEL_STREAM = 0, 1  # which of the two uses of the run's seed


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Whole batches in one pass; the few images left over are others in each epoch."""
    steps = len(split) // batch_size
    if not steps:
        raise UserError(
            f"data.batch_size {batch_size} is more than the {len(split)} training images;"
            f" take --set data.batch_size={len(split)} or less"
        )
    return steps


def training(
    split: Split,
    config: DataConfig,
    *,
    size: int,
    classes: int,
    seed: int,
    epochs: int,
    start: int = 0,
) -> tf.data.Dataset:
    """Batches ((B, size, size, 3) float32 -1..1, (B, classes) one-hot) from step `start` to the end of `epochs`.

    The order of each epoch and every distortion are functions of (seed, position) alone: the same
    position gives the same pixels however often the run was stopped before it.
    """
    steps = steps_per_epoch(split, config.batch_size)
    used = steps * config.batch_size
    distortions = augment.training_distortions(config)
    finish = (images.Resize(size), images.ToUnit())
    load = _loader(split)

    def example(position):
        epoch = position // used
        order = tf.random.experimental.stateless_fold_in([seed, SHUFFLE_STREAM], epoch)
        index = tf.random.experimental.index_shuffle(position % used, order, len(split) - 1)
        image, label = load(index)
        pixel_seed = tf.random.experimental.stateless_fold_in([seed, PIXEL_STREAM], position)
        image = augment.distort(distortions, image, pixel_seed)
        return images.compose(finish, image), tf.one_hot(label, classes)

    return (
        tf.data.Dataset.range(start * config.batch_size, epochs * used)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(config.batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation(
    split: Split, view: Preprocessing, *, classes: int, batch_size: int
) -> tf.data.Dataset:
    """Every image once, in order, the last batch as small as it is: batches as in `training`, undistorted."""
    steps = images.evaluation_steps(view)
    load = _loader(split)

    def example(index):
        image, label = load(index)
        return images.compose(steps, image), tf.one_hot(label, classes)

    return (
        tf.data.Dataset.range(len(split))
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def first_bad_image(split: Split) -> str | None:
    """The path of the first file that does not decode and why, or None; for the error sentence after a failure."""
    if split.images.dtype == "uint8":
        return None
    for path in split.images:
        try:
            data = Path(path).read_bytes()
            status = images.check(data).numpy().decode()
            if status == images.OK:
                images.decode(data)
                continue
        except OSError as error:
            status = error.strerror
        except tf.errors.InvalidArgumentError:
            status = "damaged"
        return f"{path}: {status}"
    return None


def _loader(split: Split):
    """index → ((H, W, 3) uint8, class)."""
    classes = tf.constant(split.classes)
    if split.images.dtype == "uint8":
        pixels = tf.constant(split.images)
        return lambda index: (pixels[index], classes[index])
    paths = tf.constant(split.images)

    def load(index):
        data = tf.io.read_file(paths[index])
        status = images.check(data)
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.equal(status, images.OK), [paths[index], status])]
        ):
            return images.decode(data), classes[index]

    return load
