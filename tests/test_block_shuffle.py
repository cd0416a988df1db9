# SPDX-License-Identifier: Apache-2.0
"""A block shuffle: records read in sequence, every image once an epoch, and the same stream from any step."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
from example_files import example, write

from inception_tf.config import Config, DataConfig
from inception_tf.data import pipeline, sampling
from inception_tf.data.sampling import block_order
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import open_source
from inception_tf.errors import UserError

COUNT, EPOCHS = 90, 2
PLAIN = DataConfig(
    batch_size=8, box_area=None, flip=False, max_bad=0.5, shuffle="block", shuffle_images=24
)


def jpeg(value):
    return tf.io.encode_jpeg(np.full((4, 4, 3), value, np.uint8)).numpy()


@pytest.fixture(scope="module", autouse=True)
def blocks_of_five():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "BLOCK", 5)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three files of 30 images, whose gray is their number."""
    folder = tmp_path_factory.mktemp("records")
    for file in range(3):
        rows = [(jpeg(30 * file + n), n % 2) for n in range(30)]
        write(folder / f"train-{file}", rows)
    write(folder / "test-0", [(jpeg(0), 0)])
    return folder


@pytest.fixture(scope="module")
def split(folder):
    return open_source(f"tfrecord:{folder}/*").split("train")


@pytest.fixture(scope="module")
def whole(split):
    return order(split)


def order(split, start=0, shard=(0, 1), config=PLAIN, epochs=EPOCHS):
    found = block_order(split, config, 3, shard, start=start, epochs=epochs)
    return [tuple(item) for item in found.as_numpy_iterator()]


def gray(split, start=0, bad=None):
    data = pipeline.training_batches(
        split, PLAIN, size=4, classes=2, seed=3, epochs=EPOCHS, start=start, bad=bad
    )
    return [np.round((x[:, 0, 0, 0].numpy() + 1) * 127.5).astype(int) for x, _ in data]


def test_every_epoch_has_every_image_once_in_another_order(whole):
    steps = COUNT // 8
    assert [position for position, _, _ in whole] == list(range(EPOCHS * steps * 8))
    epochs = np.array([index for _, index, _ in whole]).reshape(EPOCHS, -1)
    for epoch in epochs:
        assert len(set(epoch)) == steps * 8
        # The images of a window are those of whole blocks, but for the two at its ends.
        for window in range(0, steps * 8 - 24, 24):
            blocks = np.unique(epoch[window : window + 24] // 5, return_counts=True)[1]
            assert np.sort(blocks)[2:].tolist() == [5] * (len(blocks) - 2)
            assert np.any(np.diff(epoch[window : window + 24]) < 0)
    assert np.any(epochs[0] != epochs[1])


def test_records_are_those_of_their_indices(whole):
    contents = {index: record for _, index, record in whole}
    assert all(record == example(jpeg(n), n % 30 % 2) for n, record in contents.items())


def test_from_any_step_the_rest_is_the_same(split, whole):
    for start in (4, 11, 21):
        assert order(split, start) == whole[start * 8 :], start


def test_workers_share_each_batch(split, whole):
    parts = [order(split, shard=(worker, 2)) for worker in range(2)]
    for step in range(22):
        batch = whole[step * 8 : step * 8 + 8]
        assert batch == parts[0][step * 4 : step * 4 + 4] + parts[1][step * 4 : step * 4 + 4]


def test_batches_are_those_of_the_order_and_damage_is_replaced(folder, whole, tmp_path):
    expected = np.array([index for _, index, _ in whole]).reshape(-1, 8)
    copy = shutil.copytree(folder, tmp_path / "damaged")
    split = open_source(f"tfrecord:{copy}/*").split("train")
    file = split.path(37)
    offset = int(split.images.locations[37, 2])
    with open(file, "r+b") as stream:  # a byte of a record in the middle of its block
        stream.seek(offset + 30)
        stream.write(b"\xff")
    bad = BadImages(split, 0.5)
    found = np.array(gray(split, bad=bad))
    assert list(bad.reasons) == [split.describe(37)]
    assert 37 not in found
    np.testing.assert_array_equal(found[expected != 37], expected[expected != 37])
    np.testing.assert_array_equal(gray(split, start=5, bad=BadImages(split, 0.5)), found[5:])


def test_it_is_for_records_and_for_one_reader(class_folders):
    files = open_source(f"folder:{class_folders(blue=9, red=9)}").split("all")
    with pytest.raises(
        UserError, match="data.shuffle=block reads the records of tfrecord: and tfds:"
    ):
        order(files)
    with pytest.raises(
        UserError, match="data.shuffle=block is for one reader, and data.service has"
    ):
        Config().override(["data.shuffle=block", "data.service='grpc://a:1'"])
    with pytest.raises(UserError, match="did you mean 'block'"):
        Config().override(["data.shuffle=blocks"])


def test_a_window_larger_than_the_set_mixes_all(split):
    config = dataclasses.replace(PLAIN, shuffle_images=10_000)
    found = [index for _, index, _ in order(split, config=config, epochs=1)]
    assert len(set(found)) == 88
    assert np.corrcoef(found, range(88))[0, 1] < 0.5
