# SPDX-License-Identifier: Apache-2.0
"""Sources, splits and the stream of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data import augment, images, pipeline
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources import Split, open_source
from inception_tf.errors import UserError

PLAIN = DataConfig(batch_size=4, box_area=None, flip=False)


def _numbered(count):
    """Images whose pixels say which one they are."""
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 8 * 8 * 3).reshape(count, 8, 8, 3)
    return Split(pixels, np.arange(count, dtype=np.int64) % 2)


def _order(split, start=0, epochs=2, seed=0):
    stream = pipeline.training(
        split, PLAIN, size=8, classes=2, seed=seed, epochs=epochs, start=start
    )
    return [round(float((x[0, 0, 0] + 1) * 127.5)) for batch, _ in stream for x in batch.numpy()]


def test_digits_are_scikit_learns_1797_divided_into_1437_and_360():
    source = open_source("digits")
    train, test = source.split("train"), source.split("test")
    assert (len(train), len(test)) == (1437, 360)
    assert source.labels == tuple("0123456789")
    from sklearn.datasets import load_digits

    def sorted_rows(images):
        return sorted(map(bytes, images))

    theirs = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    ours = np.concatenate([train.images, test.images])
    assert sorted_rows(ours[..., 0]) == sorted_rows(theirs)


def test_digits_are_split_the_same_everywhere():
    # load_digits().target[numpy.random.RandomState(20150211).permutation(1797)[:8]]; NumPy never changes that stream.
    assert open_source("digits").split("test").classes[:8].tolist() == [7, 4, 6, 6, 1, 4, 3, 1]


def test_each_epoch_shows_whole_batches_of_distinct_images_in_another_order():
    order = _order(_numbered(10))
    first, second = order[:8], order[8:]
    assert len(set(first)) == len(set(second)) == 8
    assert first != second


def test_another_seed_gives_another_order():
    assert _order(_numbered(100), seed=1) != _order(_numbered(100), seed=2)


def test_the_stream_goes_on_at_any_step_with_the_same_images():
    split = _numbered(10)
    assert _order(split, start=3) == _order(split)[3 * 4 :]


def test_distortions_depend_on_seed_and_position_alone():
    split = open_source("digits").split("train")
    config = DataConfig(batch_size=2)

    def batches(start):
        stream = pipeline.training(
            split, config, size=16, classes=10, seed=5, epochs=1, start=start
        )
        return [x.numpy() for x, _ in stream.take(3)]

    np.testing.assert_array_equal(batches(0)[2], batches(2)[0])
    assert not np.array_equal(batches(0)[0], batches(1)[0])


def test_evaluation_shows_every_image_once_in_order_with_the_small_last_batch():
    split = _numbered(10)
    data = pipeline.evaluation(split, Preprocessing(8, None), classes=2, batch_size=4)
    shown = [round(float((x[0, 0, 0] + 1) * 127.5)) for batch, _ in data for x in batch.numpy()]
    assert shown == list(range(10))


def test_a_distorted_box_keeps_to_its_area_and_aspect():
    box = augment.DistortedBox((0.25, 0.5), (0.75, 1.33))
    for number in range(50):
        height, width, _ = box(tf.zeros((100, 120, 3)), [number, 0]).shape
        assert 0.24 <= height * width / (100 * 120) <= 0.51
        assert 0.73 <= width / height <= 1.36


def test_flip_mirrors_about_half():
    flip = augment.Flip()
    image = tf.constant([[[0.0], [1.0]]])
    flipped = sum(float(flip(image, [number, 0])[0, 0, 0]) for number in range(200))
    assert 70 <= flipped <= 130


def test_evaluation_crops_the_centre_and_scales_to_minus_one_and_one():
    image = np.zeros((80, 80, 3), np.uint8)
    image[5:75, 5:75] = 255
    seen = images.compose(images.evaluation_steps(Preprocessing(20)), image)
    assert seen.shape == (20, 20, 3)
    np.testing.assert_allclose(seen, 1.0)


def test_scales_are_those_of_the_projects_that_trained_with_them():
    """torchvision: x / 255 less 0.485, 0.456, 0.406 over 0.229, 0.224, 0.225; BVLC: BGR less 104, 117, 123."""
    image = tf.constant([[[10.0, 20.0, 30.0]]])

    def scaled(name):
        return images.compose(images.evaluation_steps(Preprocessing(1, None, name)), image)[0, 0]

    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(
        scaled("torch"), (np.array([10, 20, 30]) / 255 - means) / deviations, rtol=1e-5
    )
    np.testing.assert_allclose(scaled("caffe"), [30 - 104, 20 - 117, 10 - 123])
    np.testing.assert_allclose(scaled("unit"), np.array([10, 20, 30]) / 127.5 - 1, rtol=1e-6)


def test_steps_are_readable():
    assert (
        repr(images.evaluation_steps(Preprocessing(299)))
        == "(CentralCrop(fraction=0.875), Resize(size=299, interpolation='bilinear'), ToUnit())"
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(40), "not a JPEG or PNG image"),
        (b"\xff", "not a JPEG or PNG image"),
        (tf.io.encode_jpeg(np.zeros((9, 7, 3), np.uint8)).numpy(), "ok"),
        (tf.io.encode_png(np.zeros((9, 7, 1), np.uint8)).numpy(), "ok"),
    ],
)
def test_an_encoded_image_is_judged_by_its_first_bytes(data, status):
    assert images.check(tf.constant(data)).numpy().decode() == status


def test_an_image_over_the_pixel_limit_is_refused_by_its_header():
    header = (
        b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (20000).to_bytes(4, "big") * 2
    )
    status = images.check(tf.constant(header)).numpy().decode()
    assert status == "20000x20000 pixels, at most 50000000 are read"


def test_a_folder_of_classes_is_held_out_by_class(class_folders):
    source = open_source(f"folder:{class_folders(blue=20, red=10)}")
    assert source.labels == ("blue", "red")
    train, validation = source.split("train"), source.split()
    assert not set(train.images) & set(validation.images)
    assert np.bincount(validation.classes).tolist() == [2, 1]
    assert len(train) == 27


def test_a_folder_with_splits_keeps_them(test_data):
    source = open_source(f"folder:{test_data / 'flowers12'}")
    assert len(source.labels) == 12
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 720,
        "test": 240,
    }
    data = pipeline.evaluation(source.split(), Preprocessing(64), classes=12, batch_size=2)
    batch, labels = next(iter(data))
    assert batch.shape == (2, 64, 64, 3)
    assert -1 <= float(tf.reduce_min(batch)) < float(tf.reduce_max(batch)) <= 1
    np.testing.assert_array_equal(labels.numpy().argmax(1), [0, 0])


def test_a_folder_with_one_class_is_refused(class_folders):
    with pytest.raises(UserError, match="needs at least two class folders, found only 'red'"):
        open_source(f"folder:{class_folders(red=2)}")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs at least two class folders, found none"):
        open_source(f"folder:{tmp_path}")


def test_class_folders_without_images_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="has no images"):
        open_source(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digit", "unknown data 'digit'; known: digits, folder:PATH; did you mean 'digits'?"),
        ("folder:", "unknown data 'folder:'"),
        ("folder:/nowhere/at/all", "there is no folder /nowhere/at/all"),
        ("/", "a folder is given as folder:/"),
    ],
)
def test_unknown_data_is_one_sentence(name, sentence):
    with pytest.raises(UserError) as error:
        open_source(name)
    assert sentence in str(error.value)


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(
        UserError, match="unknown split of digits 'tests'; known: train, test; did you mean 'test'?"
    ):
        open_source("digits").split("tests")


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match="data.batch_size 64 is more than the 10 training images"):
        pipeline.steps_per_epoch(_numbered(10), 64)


def test_the_first_bad_file_is_named(class_folders):
    folder = class_folders(blue=2) / "blue"
    good, bad = str(folder / "0.png"), str(folder / "1.png")
    Path(bad).write_bytes(b"no image at all")
    split = Split(np.array([good, bad]), np.array([0, 0]))
    assert pipeline.first_bad_image(split) == f"{bad}: not a JPEG or PNG image"
    Path(bad).write_bytes(Path(good).read_bytes()[:60])
    assert pipeline.first_bad_image(split) == f"{bad}: damaged"
    assert pipeline.first_bad_image(Split(split.images[:1], split.classes[:1])) is None
