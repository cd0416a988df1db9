# SPDX-License-Identifier: Apache-2.0
"""Decoded images kept in memory or in a file: the same pixels, read once."""

from __future__ import annotations

import numpy as np
import pytest

from inception_tf.config import DataConfig
from inception_tf.data import pipeline
from inception_tf.data.cache import cache_decoded
from inception_tf.data.decoding.transforms import evaluation_steps
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources.open import Split, open_source
from inception_tf.errors import UserError

BOXES = DataConfig(batch_size=6, box_area=(0.3, 1.0), flip=True, max_bad=0.5)


def _training_images(split, bad):
    data = pipeline.training_batches(split, BOXES, size=16, classes=2, seed=3, epochs=2, bad=bad)
    return [x.numpy() for x, _ in data]


def _evaluation_images(split, bad):
    steps = evaluation_steps(Preprocessing(16, None))
    data = pipeline.evaluation_batches(split, steps, batch_size=8, bad=bad)
    return np.concatenate([x for x, _ in data])


@pytest.fixture
def split(class_folders):
    folder = class_folders(blue=8, red=6)
    (folder / "red" / "3.jpg").write_bytes(b"no image")
    return open_source(f"folder:{folder}").split("all")


def test_a_cached_split_gives_the_same_batches_and_names_and_does_not_read_the_images_again(
    split, tmp_path
):
    good = split.take([n for n, path in enumerate(split.images) if "red/3" not in path])
    passes = (("memory", good, _training_images), (str(tmp_path), split, _evaluation_images))
    found = []
    for place, whole, images in passes:
        bad = BadImages(whole, 0.5)
        found.append((images(whole, bad), bad.reasons, cache_decoded(whole, place), images))
    for path in split.images:
        open(path, "wb").close()
    for plain, reasons, cached, images in found:
        skipped = BadImages(cached, 0.5)
        np.testing.assert_array_equal(images(cached, skipped), plain)
        assert skipped.reasons == reasons
    assert reasons != {}


def test_a_file_is_used_again_until_an_image_changes(split, tmp_path):
    folder = tmp_path / "cache"
    for _ in range(2):
        cache_decoded(split, str(folder))
    (first,) = folder.iterdir()
    with open(split.images[0], "ab") as image:
        image.write(b"more")
    cache_decoded(split, str(folder))
    assert len(list(folder.iterdir())) == 2
    assert first.is_file()


def test_pixels_need_no_cache():
    digits = open_source("digits").split("test")
    assert cache_decoded(digits, "memory") is digits


def test_a_folder_that_cannot_be_written_is_one_sentence(split, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError, match="cannot write the cache of decoded images"):
        cache_decoded(split, str(blocked))


def test_records_are_cached_too(test_data, tmp_path):
    whole = open_source(f"tfrecord:{test_data / 'imagenet_val650'}/*", label_offset=1).split()
    few = whole.take(np.arange(0, 650, 50))
    kept = cache_decoded(few, str(tmp_path))
    assert isinstance(few, Split)
    plain, cached = (_evaluation_images(part, BadImages(part)) for part in (few, kept))
    np.testing.assert_array_equal(cached, plain)
    assert kept.describe(3) == few.describe(3)
