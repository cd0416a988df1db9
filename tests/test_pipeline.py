# SPDX-License-Identifier: Apache-2.0
"""The training stream, a function of seed and position, and the evaluation pass."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.augmentation import distortions
from inception_tf.data.decoding import images, transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sampling import sample_order, steps_per_epoch
from inception_tf.data.sources.open import Split, open_source
from inception_tf.errors import UserError

PLAIN = DataConfig(batch_size=4, box_area=None, flip=False)


def _numbered(count):
    """Images whose pixels say which one they are."""
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 8 * 8 * 3).reshape(count, 8, 8, 3)
    return Split(pixels, np.arange(count, dtype=np.int64) % 2)


def _shown(batch):
    return [round(float((x[0, 0, 0] + 1) * 127.5)) for x in batch.numpy()]


def _order(split, start=0, epochs=2, seed=0, config=PLAIN):
    stream = pipeline.training_batches(
        split, config, size=8, classes=2, seed=seed, epochs=epochs, start=start
    )
    return [number for batch, _ in stream for number in _shown(batch)]


def _indices(split, start=0, epochs=2, seed=0, config=PLAIN):
    """Of the images that `_order` shows, without reading them."""
    order = sample_order(split, config, seed, (0, 1), start=start, epochs=epochs)
    _, indices = order.batch(20_000).get_single_element()
    return indices.numpy().tolist()


def test_the_stream_shows_the_images_of_the_order():
    weak = dataclasses.replace(PLAIN, shuffle="weak")
    for config in (PLAIN, weak):
        split = _numbered(20)
        assert _order(split, start=2, seed=1, config=config) == _indices(
            split, start=2, seed=1, config=config
        )


def test_each_epoch_shows_whole_batches_of_distinct_images_in_another_order():
    order = _order(_numbered(10))
    first, second = order[:8], order[8:]
    assert len(set(first)) == len(set(second)) == 8
    assert first != second


def test_no_two_images_keep_meeting_in_a_batch():
    """Ioffe and Szegedy 2015, section 4.2.1: with an order that stays, 96 pairs would meet in all 200 epochs.

    Of 64 images in batches of 4 a pair meets in an epoch with probability 3/63: 9.5 times in 200
    epochs, standard deviation 3.0; over the 2,016 pairs the most that chance brings is about 20.
    """
    order = np.array(_indices(_numbered(64), epochs=200)).reshape(-1, 4)
    meetings = np.zeros((64, 64), int)
    for batch in order:
        for a, b in itertools.combinations(sorted(batch), 2):
            meetings[a, b] += 1
    pairs = meetings[np.triu_indices(64, 1)]
    assert pairs.sum() == 200 * 16 * 6
    assert abs(pairs.std() - 3.0) < 0.3
    assert pairs.max() < 26


def test_weakly_shuffled_the_same_images_form_a_batch_in_every_epoch():
    weak = dataclasses.replace(PLAIN, shuffle="weak")
    order = np.array(_indices(_numbered(64), epochs=20, config=weak)).reshape(20, 16, 4)
    batches = [[tuple(batch) for batch in epoch] for epoch in order]
    assert len({frozenset(epoch) for epoch in map(tuple, batches)}) == 1
    assert len({tuple(epoch) for epoch in batches}) == 20  # the batches in another order each time
    assert sorted(order[0].ravel()) == list(range(64))
    assert batches[0] != [tuple(range(start, start + 4)) for start in range(0, 64, 4)]
    split = _numbered(64)
    later = _indices(split, start=21, config=weak)
    assert later == _indices(split, config=weak)[21 * 4 :]


def test_balanced_every_class_is_drawn_equally_often_and_so_is_each_of_its_images():
    pixels = _numbered(60).images
    classes = np.array([0] * 48 + [3] * 9 + [1] * 3)  # of class 2 there is none
    split = Split(pixels, classes)
    balanced = dataclasses.replace(PLAIN, balance=True)
    stream = pipeline.training_batches(split, balanced, size=8, classes=4, seed=0, epochs=5)
    images, labels = (
        np.concatenate(part) for part in zip(*stream.as_numpy_iterator(), strict=True)
    )
    numbers = ((images[:, 0, 0, 0] + 1) * 127.5).round().astype(int)
    np.testing.assert_array_equal(labels.argmax(1), classes[numbers])
    assert numbers.tolist() == _indices(split, epochs=5, config=balanced)
    numbers = np.array(_indices(split, epochs=100, config=balanced))
    assert len(numbers) == 6000
    by_class = np.bincount(classes[numbers], minlength=4)
    # Standard deviation of 2,000: 37.
    assert by_class[2] == 0
    assert np.abs(by_class[[0, 1, 3]] - 2000).max() < 150
    by_image = np.bincount(numbers, minlength=60)
    assert np.abs(by_image[57:] - 667).max() < 110
    assert by_image.min() > 15
    assert _indices(split, start=3, config=balanced) == _indices(split, config=balanced)[12:]


def test_another_seed_gives_another_order():
    assert _indices(_numbered(100), seed=1) != _indices(_numbered(100), seed=2)


def test_the_stream_goes_on_at_any_step_with_the_same_images():
    split = _numbered(10)
    assert _order(split, start=3) == _order(split)[3 * 4 :]


def test_distortions_depend_on_seed_and_position_alone():
    split = open_source("digits").split("train")
    config = DataConfig(batch_size=2, photometric="full")

    def batches(start):
        stream = pipeline.training_batches(
            split, config, size=16, classes=10, seed=5, epochs=1, start=start
        )
        return [x.numpy() for x, _ in stream.take(3)]

    first = batches(0)
    np.testing.assert_array_equal(first[2], batches(2)[0])
    assert not np.array_equal(first[0], first[1])


DIGEST = """
import hashlib, sys
from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.sources.open import open_source
source = open_source(sys.argv[1])
config = DataConfig(batch_size=8, photometric="full",
                    random_erasing=0.5, mixup_alpha=0.2, cutmix_alpha=1.0)
stream = pipeline.training_batches(source.split("train"), config, size=48, classes=len(source.labels), seed=7, epochs=1)
digest = hashlib.sha256()
for images, labels in stream.take(5):
    digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_same_seed_gives_the_same_batches_in_two_processes(test_data):
    name = f"folder:{test_data / 'flowers12'}"
    children = [
        subprocess.Popen([sys.executable, "-c", DIGEST, name], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (child.communicate(timeout=120)[0].split()[-1] for child in children)
    assert first == second
    assert first != hashlib.sha256().hexdigest()


def test_mixed_batches_go_on_at_any_step_too():
    split = _numbered(40)
    config = DataConfig(batch_size=4, box_area=None, flip=False, mixup_alpha=0.4)

    def stream(start):
        data = pipeline.training_batches(
            split, config, size=8, classes=2, seed=0, epochs=1, start=start
        )
        return [(x.numpy(), y.numpy()) for x, y in data]

    for ours, theirs in zip(stream(4), stream(0)[4:], strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_box_of_a_jpeg_is_what_decoding_all_and_cropping_gives(tmp_path, test_data):
    """Within the box's inside: at its edges the decoder has no neighbour to smooth the colours with."""
    split = open_source(f"folder:{test_data / 'flowers12'}").split("test")
    box = distortions.RandomResizedCrop((0.2, 0.8), (0.75, 1.33))
    for index in range(0, 240, 48):
        data, seed = tf.io.read_file(split.images[index]), tf.constant([index, 1], tf.int64)
        ours = tf.cast(images.read_image(data, box, seed)[1], tf.int32)
        theirs = tf.cast(box(images.decode(data), seed), tf.int32)
        assert ours.shape == theirs.shape
        difference = np.abs(ours - theirs)[2:-2, 2:-2]
        assert difference.mean() < 0.05


def test_evaluation_shows_every_image_once_in_order_with_the_small_last_batch():
    steps = transforms.evaluation_steps(Preprocessing(8, None))
    data = list(pipeline.evaluation_batches(_numbered(10), steps, batch_size=4))
    assert [n for batch, _ in data for n in _shown(batch)] == list(range(10))
    assert [i for _, index in data for i in index.numpy()] == list(range(10))
    assert [len(index) for _, index in data] == [4, 4, 2]


def test_evaluation_becomes_targets_for_keras():
    split = _numbered(6)
    steps = transforms.evaluation_steps(Preprocessing(8, None))
    batches = pipeline.with_one_hot_labels(
        pipeline.evaluation_batches(split, steps, batch_size=6), split, 2
    )
    _, targets = next(iter(batches))
    np.testing.assert_array_equal(targets, np.eye(2)[[0, 1, 0, 1, 0, 1]])


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match="data.batch_size 64 is more than the 10 training images"):
        steps_per_epoch(_numbered(10), 64)


def _prepared_at_the_start(batches):
    """Kinds of the operations in what TensorFlow copies into one graph before the first image."""
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=tf.data.experimental.to_variant(batches))
    graph = tf.compat.v1.GraphDef.FromString(graph.numpy())
    functions = {function.signature.name: function for function in graph.library.function}
    kinds, waiting = set(), [graph.node]
    while waiting:
        for node in waiting.pop():
            kinds.add(node.op)
            values = node.attr.values()
            for name in [f.name for value in values for f in (value.func, *value.list.func)]:
                if name in functions and "_noinline" not in functions[name].attr:
                    waiting.append(functions.pop(name).node_def)
    return kinds


def test_what_few_images_need_does_not_delay_the_first_batch():
    split = Split(np.array(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]), np.zeros(4, np.int64))
    rare = {"DecodeImage", "DecodePng", "DecodeGif", "DecodeWebP", "EagerPyFunc", "PyFunc"}
    training = pipeline.training_batches(split, PLAIN, size=8, classes=2, seed=0, epochs=1)
    kinds = _prepared_at_the_start(training)
    assert "DecodeJpeg" in kinds
    assert not kinds & (rare | {"Transpose"})  # that of an image that EXIF turns
    evaluation = pipeline.evaluation_batches(
        split, transforms.evaluation_steps(Preprocessing(8)), batch_size=4
    )
    assert "ReadFile" not in _prepared_at_the_start(evaluation)
