# SPDX-License-Identifier: Apache-2.0
"""Batches of a split: the training stream, which can start at any step, and one evaluation pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.augmentation import distortions as augment
from inception_tf.data.decoding import images, transforms
from inception_tf.data.decoding.prepared import prepared_when_called
from inception_tf.data.loading import image_loader, safe_loader, stored_reader
from inception_tf.data.sampling import (
    BATCH_STREAM,
    CROP_STREAM,
    PIXEL_STREAM,
    REDRAW_STREAM,
    block_order,
    fold_in,
    sample_order,
    seed_for,
    steps_per_epoch,
)
from inception_tf.data.service import by_service
from inception_tf.data.skipped import DAMAGED, EMPTY, BadImages
from inception_tf.data.sources.splits import Split
from inception_tf.data.tuning import untuned

__all__ = ["evaluation_batches", "training_batches", "with_one_hot_labels"]

GROUP = 32  # the most images that one call reads
ATTEMPTS = 1000  # images drawn in place of one that cannot be read before the error
# No Python `if` depends on a tensor, so autograph would only cost seconds.
do_not_convert = tf.autograph.experimental.do_not_convert


@do_not_convert
def training_batches(
    split: Split,
    config: DataConfig,
    *,
    size: int,
    classes: int,
    seed: int,
    epochs: int,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    bad: BadImages | None = None,
) -> tf.data.Dataset:
    """The stream of augmented training batches.

    Each epoch is another permutation of all images, so that the same images do not share a batch again
    (Ioffe and Szegedy 2015, section 4.2.1).  Order and augmentations are functions of seed and position
    alone: a resumed run gives the same pixels.  An image that cannot be read is replaced by another.

    With `config.service`, the workers of a tf.data service read and augment the images; they need access
    to the same files.  Batches then arrive as they are ready: their order differs between runs, also
    across the boundary of two epochs, and a stop or a lost worker may skip or repeat some.  Images that
    cannot be read are replaced, but not counted in `bad`.

    Args:
        split: The training images.
        config: The `data` section of a configuration.
        size: int. Height and width in pixels.
        classes: int. Number of classes.
        seed: int. The run's seed.
        epochs: int. The end of the stream, counted from step 0.
        start: int. The first step.
        shard: (index, count): which part of each batch, of how many; the batch size must be a multiple of
            count. Mixup and cutmix mix the images of one part.
        bad: Counts the images that cannot be read; None: a new one.

    Returns:
        A data set of (B, size, size, 3) float32 in [-1, 1] and (B, classes) float32 one-hot labels, of multi-label
        data a 1 for each class that an image shows.

    Raises:
        UserError: The split is smaller than a batch, or a setting needs a missing package or service.
    """
    bad = None if config.service or split.decoded else bad or BadImages(split, config.max_bad)
    steps = steps_per_epoch(split, config.batch_size)
    worker, workers = shard
    local_size = config.batch_size // workers
    readers = _readers(split, config, bad, size=size, classes=classes, seed=seed)
    group = _group(local_size)
    specs = (
        tf.TensorSpec((size, size, 3), tf.float32),
        tf.TensorSpec((classes,), tf.float32),
    )
    # Pixels in memory cannot be damaged.
    examples = _all_of(readers[0], specs) if split.decoded else _together(*readers, specs)
    order = block_order if config.shuffle == "block" else sample_order
    batches = (
        order(split, config, seed, shard, start=start, epochs=epochs)
        .batch(group, drop_remainder=True)
        .map(examples, num_parallel_calls=tf.data.AUTOTUNE)
    )
    if group < local_size:
        batches = batches.batch(local_size // group, drop_remainder=True)
        batches = batches.map(lambda *parts: tuple(_merged(part) for part in parts))
    if config.service:
        batches = batches.apply(by_service(config.service)).take(epochs * steps - start)
    mixed = augment.batch_distortions(config)
    if mixed:
        batches = batches.enumerate(start).map(
            lambda step, batch: _mixed(
                mixed, batch, seed_for(seed, BATCH_STREAM, step * workers + worker)
            )
        )
    # Keras needs the number of batches, which flat_map hides.
    left = tf.data.experimental.assert_cardinality(epochs * steps - start)
    return untuned(batches.apply(left).prefetch(tf.data.AUTOTUNE))


def _readers(
    split: Split,
    config: DataConfig,
    bad: BadImages | None,
    *,
    size: int,
    classes: int,
    seed: int,
) -> tuple[Callable, Callable]:
    """Two functions (position, index) → (pixels, label): one fails on a damaged image, the other draws a replacement.

    In a block shuffle the record is a third argument, which the second function reads again.
    """
    distortions = augment.training_distortions(config)
    resize = transforms.Resize(size)
    crop = augment.training_crop(config)
    load = image_loader(split, resize, crop)
    load_stored = image_loader(split, resize, crop, stored_reader(split))
    load_safely = _patient(safe_loader(load, split, resize), bad)
    target = _target_reader(split, classes)

    def distorted(pixels, position, index):
        pixels = augment.distort(distortions, pixels, seed_for(seed, PIXEL_STREAM, position))
        return transforms.ToUnit()(pixels), target(index)

    def fast(position, index, *stored):
        crop_seed = seed_for(seed, CROP_STREAM, position)
        pixels, status = load_stored(stored[0], crop_seed) if stored else load(index, crop_seed)
        readable = tf.debugging.Assert(tf.equal(status, images.OK), [status])
        with tf.control_dependencies([readable]):
            return distorted(tf.identity(pixels), position, index)

    @partial(tf.function, autograph=False)
    def read(position, index):
        pixels, status = load_safely(index, seed_for(seed, CROP_STREAM, position))
        return pixels, index, _is_readable(bad, index, status)

    def replacement(position, attempt):
        drawn = fold_in(seed_for(seed, REDRAW_STREAM, position), attempt)
        return read(position, tf.random.stateless_uniform((), drawn, 0, len(split), tf.int64))

    def careful(position, index, *stored):
        first = read(position, index)
        pixels, index, _ = tf.cond(
            first[2],
            lambda: first,
            lambda: _redrawn(first, lambda attempt: replacement(position, attempt)),
        )
        return distorted(pixels, position, index)

    return fast, careful


@do_not_convert
def evaluation_batches(
    split: Split,
    steps: tuple[transforms.ImageStep, ...],
    *,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    bad: BadImages | None = None,
) -> tf.data.Dataset:
    """All readable images once, in order.

    Args:
        split: The images.
        steps: Image steps from (H, W, 3) uint8 to one fixed shape.
        batch_size: int. Images per batch; the last batch may be smaller.
        shard: (index, count): which part of the split, of how many.
        bad: Counts the images that cannot be read, which are skipped; None: a new one.

    Returns:
        A data set of pixels (B, ...) float32 and indices into the split (B,) int64.
    """
    worker, workers = shard
    bad = None if split.decoded else bad or BadImages(split)
    finish = partial(transforms.apply_steps, steps)
    load = _patient(safe_loader(image_loader(split, finish), split, finish), bad)

    def example(index):
        pixels, status = load(index, tf.zeros(2, tf.int64))
        return pixels, index, _is_readable(bad, index, status)

    return untuned(
        tf.data.Dataset.range(len(split) * worker // workers, len(split) * (worker + 1) // workers)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .filter(lambda pixels, index, readable: readable)
        .map(lambda pixels, index, readable: (pixels, index))
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def with_one_hot_labels(batches: tf.data.Dataset, split: Split, classes: int) -> tf.data.Dataset:
    """Replace the indices by one-hot labels, as `model.evaluate` expects.

    Args:
        batches: What `evaluation_batches` returned.
        split: The images.
        classes: int. Number of classes.

    Returns:
        A data set of pixels and (B, classes) float32 one-hot labels, or multi-label ones.
    """
    target = _target_reader(split, classes)
    return batches.map(lambda pixels, index: (pixels, target(index)))


def _target_reader(split: Split, classes: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from indices (...) to their targets (..., classes) float32."""
    if split.targets is None:
        labels = tf.constant(split.classes)
        return lambda index: tf.one_hot(tf.gather(labels, index), classes)
    targets = tf.constant(split.targets)
    return lambda index: tf.cast(tf.gather(targets, index), tf.float32)


def _group(batch_size: int) -> int:
    """How many images one call reads: a batch, or the largest even part of it up to `GROUP`."""
    return max(count for count in range(1, GROUP + 1) if batch_size % count == 0)


def _all_of(example: Callable, specs: tuple[tf.TensorSpec, ...]) -> Callable:
    """A function (positions (g,), indices (g,), ...) → examples (g, ...); specs: of one example."""
    return lambda *items: tf.map_fn(lambda item: example(*item), items, fn_output_signature=specs)


def _together(fast: Callable, careful: Callable, specs: tuple[tf.TensorSpec, ...]) -> Callable:
    """What `_all_of` returns, by `fast`, or by `careful` if one of the examples fails.

    Error handling takes a third of a millisecond, so it is done once per group and not per image.
    """

    def examples(*items):
        group = tf.data.Dataset.from_tensors(items)
        none = tuple(tf.zeros((0, *spec.shape), spec.dtype) for spec in specs)
        found = (
            group.map(_all_of(fast, specs))
            .ignore_errors()
            .concatenate(tf.data.Dataset.from_tensors(none))
            .take(1)
            .get_single_element()
        )
        count = items[0].shape[0]
        whole = tf.cond(
            tf.equal(tf.shape(found[0])[0], count),
            lambda: found,
            lambda: prepared_when_called(_all_of(careful, specs))(*items),
        )
        return tuple(tf.ensure_shape(part, (count, *part.shape[1:])) for part in whole)

    return examples


def _merged(parts):
    """(P, g, ...) → (P * g, ...)"""
    return tf.reshape(parts, (parts.shape[0] * parts.shape[1], *parts.shape[2:]))


def _redrawn(first: tuple[Any, ...], draw: Callable) -> tuple[Any, ...]:
    """Draw replacements until one can be read; each is a function of its number, so that a rerun draws the same."""
    pixels, index, readable = first

    def again(attempt, pixels, index, readable):
        return (attempt + 1, *draw(attempt))

    _, pixels, index, readable = tf.while_loop(
        lambda attempt, pixels, index, readable: (attempt < ATTEMPTS) & ~readable,
        again,
        (tf.constant(1, tf.int64), pixels, index, readable),
    )
    found = tf.debugging.Assert(readable, ["no image can be read, the last tried was", index])
    with tf.control_dependencies([found]):
        return tf.identity(pixels), index, readable


def _patient(load: Callable, bad: BadImages | None) -> Callable:
    """A loader that tries an image again, once its file is there, before it is damaged."""
    if bad is None:
        return load
    load = prepared_when_called(load)  # used twice, the second time seldom

    def wait(index):
        bad.wait_for(int(index))
        return index

    def retried(index, seed):
        first = load(index, seed)
        lost = tf.reduce_any(first[1] == (DAMAGED, EMPTY))

        def again():
            return load(tf.ensure_shape(tf.numpy_function(wait, [index], tf.int64), ()), seed)

        return tf.cond(lost, again, lambda: first)

    return retried


def _is_readable(bad: BadImages | None, index: tf.Tensor, status: tf.Tensor) -> tf.Tensor:
    """Whether an image is readable, () bool; one that is not is counted in `bad`."""
    if bad is None:
        return tf.equal(status, images.OK)

    def note():
        tf.numpy_function(
            lambda i, reason: bad.note(int(i), reason.decode()), [index, status], [], stateful=True
        )
        return tf.constant(False)

    return tf.cond(tf.equal(status, images.OK), lambda: tf.constant(True), note)


def _mixed(
    mixed: tuple[augment.BatchDistortion, ...],
    batch: tuple[tf.Tensor, tf.Tensor],
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    for number, mix in enumerate(mixed):
        batch = mix(*batch, fold_in(seed, number))
    return batch
