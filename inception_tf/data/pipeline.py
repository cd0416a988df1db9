# SPDX-License-Identifier: Apache-2.0
"""A split into batches: the training stream, which can start at any step, and the evaluation pass."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.augmentation import distortions as augment
from inception_tf.data.decoding import images
from inception_tf.data.loading import loader, safe_loader
from inception_tf.data.sampling import (
    BATCH_STREAM,
    BOX_STREAM,
    PIXEL_STREAM,
    REDRAW_STREAM,
    fold_in,
    places,
    seed_for,
    steps_per_epoch,
)
from inception_tf.data.service import by_service
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.splits import Split

__all__ = ["evaluation", "one_hot", "training"]

GROUP = 32  # images that are read by one call, at most
TRIES = 1000  # images drawn in place of one that cannot be read, before the pass gives up
# Autograph would rewrite each function, for seconds, and find nothing: no Python `if` depends on a tensor.
do_not_convert = tf.autograph.experimental.do_not_convert


@do_not_convert
def training(
    split: Split,
    config: DataConfig,
    *,
    size: int,
    classes: int,
    seed: int,
    epochs: int,
    start: int = 0,
    share: tuple[int, int] = (0, 1),
    bad: BadImages | None = None,
) -> tf.data.Dataset:
    """Batches ((B, size, size, 3) float32 -1..1, (B, classes) one-hot) from step `start` to the end of `epochs`.

    Each epoch is a permutation of all images of its own, so that no two of them keep meeting in a
    batch (Ioffe and Szegedy 2015, section 4.2.1).  The order and every distortion are functions of
    (seed, position) alone: the same position gives the same pixels however often the run was
    stopped before it.  An image that cannot be read is noted in `bad`, and another is drawn in its
    place.

    share: (w, n), rows w*B/n..(w+1)*B/n of each batch alone, for one of n processes; theirs together are
    the whole batch, except that mixup and cutmix then mix the images of a share.  B a multiple of n.

    With `config.service` the images are read and distorted by a tf.data service's workers, which see
    the same files.  Batches then come as they are ready: each has the images and pixels of one
    position, but the order is another in each run, an epoch's last batches may come among the next
    one's first, and a stop or a worker's end may leave out or repeat some.  An image that cannot be
    read is replaced all the same, but not noted: `bad` is in this process.
    """
    bad = None if config.service else bad or BadImages(split, config.max_bad)
    steps = steps_per_epoch(split, config.batch_size)
    worker, workers = share
    mine = config.batch_size // workers
    readers = _readers(split, config, bad, size=size, classes=classes, seed=seed)
    group = _group(mine)
    kinds = (
        tf.TensorSpec((size, size, 3), tf.float32),
        tf.TensorSpec((classes,), tf.float32),
    )
    batches = (
        places(split, config, seed, share, start=start, epochs=epochs)
        .batch(group, drop_remainder=True)
        .map(_together(*readers, kinds), num_parallel_calls=tf.data.AUTOTUNE)
    )
    if group < mine:
        batches = batches.batch(mine // group, drop_remainder=True)
        batches = batches.map(lambda *parts: tuple(_merged(part) for part in parts))
    if config.service:
        batches = batches.apply(by_service(config.service)).take(epochs * steps - start)
    mixed = augment.batch_distortions(config, classes)
    if mixed:
        batches = batches.enumerate(start).map(
            lambda step, batch: _mixed(
                mixed, *batch, seed_for(seed, BATCH_STREAM, step * workers + worker)
            )
        )
    # Keras asks for the number of batches, which flat_map hides.
    left = tf.data.experimental.assert_cardinality(epochs * steps - start)
    return batches.apply(left).prefetch(tf.data.AUTOTUNE)


def _readers(split: Split, config: DataConfig, bad, *, size: int, classes: int, seed: int):
    """Two functions (position, index) → (pixels, label): one fails on a damaged image, one draws another."""
    distortions = augment.training_distortions(config)
    resize = images.Resize(size)
    load = loader(split, resize, augment.training_box(config))
    load_safely = safe_loader(load, split, resize)
    labels = tf.constant(split.classes)

    def distorted(pixels, position, index):
        pixels = augment.distort(distortions, pixels, seed_for(seed, PIXEL_STREAM, position))
        return images.ToUnit()(pixels), tf.one_hot(labels[index], classes)

    def quick(position, index):
        pixels, status = load(index, seed_for(seed, BOX_STREAM, position))
        readable = tf.debugging.Assert(tf.equal(status, images.OK), [status])
        with tf.control_dependencies([readable]):
            return distorted(tf.identity(pixels), position, index)

    @partial(tf.function, autograph=False)
    def shown(position, index):
        pixels, status = load_safely(index, seed_for(seed, BOX_STREAM, position))
        return pixels, index, _noted(bad, index, status)

    def another(position, tries):
        drawn = fold_in(seed_for(seed, REDRAW_STREAM, position), tries)
        return shown(position, tf.random.stateless_uniform((), drawn, 0, len(split), tf.int64))

    def careful(position, index):
        first = shown(position, index)
        pixels, index, _ = tf.cond(
            first[2], lambda: first, lambda: _redrawn(first, lambda tries: another(position, tries))
        )
        return distorted(pixels, position, index)

    return quick, careful


@do_not_convert
def evaluation(
    split: Split,
    steps: tuple,
    *,
    batch_size: int,
    share: tuple[int, int] = (0, 1),
    bad: BadImages | None = None,
) -> tf.data.Dataset:
    """Every readable image once, in order: batches (pixels (B, ...) float32, index (B,) int64).

    steps: image steps, the first on (H, W, 3) uint8, the last giving one fixed shape.  What cannot
    be read is left out and noted in `bad`; the last batch is as small as it is.  share: (w, n), the
    images from w/n to (w+1)/n of the split alone.
    """
    worker, workers = share
    bad = bad or BadImages(split)
    finish = partial(images.compose, steps)
    load = safe_loader(loader(split, finish), split, finish)

    def example(index):
        pixels, status = load(index, tf.zeros(2, tf.int64))
        return pixels, index, _noted(bad, index, status)

    return (
        tf.data.Dataset.range(len(split) * worker // workers, len(split) * (worker + 1) // workers)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .filter(lambda pixels, index, readable: readable)
        .map(lambda pixels, index, readable: (pixels, index))
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def one_hot(batches: tf.data.Dataset, split: Split, classes: int) -> tf.data.Dataset:
    """Batches of `evaluation` with (B, classes) targets in place of the indices, as `model.evaluate` takes them."""
    labels = tf.constant(split.classes)
    return batches.map(
        lambda pixels, index: (pixels, tf.one_hot(tf.gather(labels, index), classes))
    )


def _group(batch_size: int) -> int:
    """How many images are read by one call: a batch, or a part of it that is not too large for one core."""
    return max(count for count in range(1, GROUP + 1) if batch_size % count == 0)


def _together(quick, careful, kinds: tuple):
    """A function (positions (g,), indices (g,)) → examples (g, ...), each `quick`'s, all `careful`'s if one fails.

    Being prepared for a damaged image takes a third of a millisecond: once for a group, not for each.
    kinds: the `tf.TensorSpec`s of one example.
    """

    def all_of(example):
        return lambda *items: tf.map_fn(
            lambda item: example(*item), items, fn_output_signature=kinds
        )

    def examples(positions, indices):
        group = tf.data.Dataset.from_tensors((positions, indices))
        none = tuple(tf.zeros((0, *kind.shape), kind.dtype) for kind in kinds)
        found = (
            group.map(all_of(quick))
            .ignore_errors()
            .concatenate(tf.data.Dataset.from_tensors(none))
            .take(1)
            .get_single_element()
        )
        count = positions.shape[0]
        whole = tf.cond(
            tf.equal(tf.shape(found[0])[0], count),
            lambda: found,
            lambda: all_of(careful)(positions, indices),
        )
        return tuple(tf.ensure_shape(part, (count, *part.shape[1:])) for part in whole)

    return examples


def _merged(parts):
    """(P, g, ...) → (P * g, ...)"""
    return tf.reshape(parts, (parts.shape[0] * parts.shape[1], *parts.shape[2:]))


def _redrawn(first, draw):
    """Further draws until one can be read; each is a function of its number, so a rerun draws the same."""
    pixels, index, readable = first

    def again(tries, pixels, index, readable):
        return (tries + 1, *draw(tries))

    _, pixels, index, readable = tf.while_loop(
        lambda tries, pixels, index, readable: (tries < TRIES) & ~readable,
        again,
        (tf.constant(1, tf.int64), pixels, index, readable),
    )
    found = tf.debugging.Assert(readable, ["no image can be read, the last tried was", index])
    with tf.control_dependencies([found]):
        return tf.identity(pixels), index, readable


def _noted(bad: BadImages | None, index, status):
    """Is the image readable?  Python hears of those that are not, where it is the same process."""
    if bad is None:
        return tf.equal(status, images.OK)

    def note():
        tf.numpy_function(
            lambda i, reason: bad.note(int(i), reason.decode()), [index, status], [], stateful=True
        )
        return tf.constant(False)

    return tf.cond(tf.equal(status, images.OK), lambda: tf.constant(True), note)


def _mixed(mixed: tuple, pixels, labels, seed):
    for number, mix in enumerate(mixed):
        pixels, labels = mix(pixels, labels, fold_in(seed, number))
    return pixels, labels
