# SPDX-License-Identifier: Apache-2.0
"""TFRecord files: splits and names, labels with and without a background, reading by place, damage."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf
from example_files import example, write

from inception_tf.data.loading import record_reader
from inception_tf.data.sources.open import open_source
from inception_tf.errors import UserError


def test_slims_imagenet_records_count_from_1_and_have_a_validation_split(test_data):
    source = open_source(f"tfrecord:{test_data / 'imagenet_val650'}/*", label_offset=1)
    assert {name: len(split) for name, split in source.splits.items()} == {"validation": 650}
    split = source.split()
    # ILSVRC2012_val_00000347 is a canoe: class 472 of 1000, and 472 in imagenet_class_index.json.
    index = json.loads((test_data / "imagenet_class_index.json").read_text())
    assert index[str(split.classes[0])][1] == "canoe" == source.labels[472]
    assert not source.named  # 650 images do not show every class
    shifted = open_source(f"tfrecord:{test_data / 'imagenet_val650'}/*").split()
    np.testing.assert_array_equal(shifted.classes, split.classes + 1)


def test_names_of_files_make_splits_and_labels_json_names_classes(test_data):
    source = open_source(f"tfrecord:{test_data / 'cifar10_12k'}/*")
    sizes = {name: len(split) for name, split in source.splits.items()}
    assert sizes == {"train": 10_000, "test": 2_000}
    assert source.labels[:3] == ("airplane", "automobile", "bird")
    assert source.named
    # CIFAR-10's README: the first 1,000 and 200 of each class.
    assert np.bincount(source.split("train").classes).tolist() == [1000] * 10
    assert np.bincount(source.split("test").classes).tolist() == [200] * 10


def test_each_record_is_read_by_its_place_alone(test_data):
    split = open_source(f"tfrecord:{test_data / 'cifar10_12k'}/train-*").split("train")
    files = sorted(map(str, (test_data / "cifar10_12k").glob("train-*")))
    stream = list(tf.data.TFRecordDataset(files).as_numpy_iterator())
    read = tf.function(record_reader(split.images))
    for index in (0, 2499, 2500, 9999, 4321):
        assert read(tf.constant(index)).numpy() == stream[index]
    assert split.describe(2500) == f"{files[1]} record 0"


def test_records_as_tfds_writes_them_are_read(tmp_path):
    write(
        tmp_path / "set-train.tfrecord-00000-of-00001",
        [(b"a", 0), (b"b", 1)],
        keys=("image", "label"),
    )
    (tmp_path / "label.labels.txt").write_text("cat\ndog\n")
    source = open_source(f"tfrecord:{tmp_path}/set-*.tfrecord*")
    assert source.labels == ("cat", "dog")
    assert source.split("train").images.image_key == "image"


def test_files_without_a_split_in_their_name_are_divided_by_class(tmp_path):
    for shard in range(2):
        write(tmp_path / f"part-{shard}", [(b"x", n % 2) for n in range(20)])
    source = open_source(f"tfrecord:{tmp_path}/part-*")
    places = {name: {tuple(p) for p in s.images.locations} for name, s in source.splits.items()}
    assert not places["train"] & places["validation"]
    assert np.bincount(source.split("validation").classes).tolist() == [2, 2]
    assert len(source.split("all")) == 40


def test_records_name_their_own_classes(tmp_path):
    write(tmp_path / "train-0", [(b"x", 1, "cat"), (b"y", 2, "dog"), (b"z", 2, "dog")])
    source = open_source(f"tfrecord:{tmp_path}/train-*", label_offset=1)
    assert (source.labels, source.named) == (("cat", "dog"), True)
    with_background = open_source(f"tfrecord:{tmp_path}/train-*")
    assert (with_background.labels, with_background.named) == (("0", "cat", "dog"), False)


@pytest.mark.parametrize(
    "lines", ["0:cat\n1:dog\n", "cat\ndog\n", "background\ncat\ndog\n", "\ufeffcat\r\ndog\r\n\r\n"]
)
def test_slims_labels_file_names_classes_with_and_without_a_background(tmp_path, lines):
    write(tmp_path / "train-0", [(b"x", 1), (b"y", 2)])
    (tmp_path / "labels.txt").write_text(lines)
    assert open_source(f"tfrecord:{tmp_path}/train-*", label_offset=1).labels == ("cat", "dog")


def test_a_list_with_more_names_than_classes_were_seen_names_them_all_rightly(tmp_path):
    write(tmp_path / "train-0", [(b"x", 1), (b"y", 2), (b"z", 3)])
    (tmp_path / "labels.txt").write_text("cat\ndog\nemu\nfox\n")
    name = f"tfrecord:{tmp_path}/train-*"
    assert open_source(name, label_offset=1).labels == ("cat", "dog", "emu", "fox")
    with pytest.raises(UserError, match="say with --label-offset 0 that label 0 is 'cat'"):
        open_source(name)
    (tmp_path / "mine.txt").write_text("background\ncat\ndog\nemu\n")
    assert open_source(name, labels=str(tmp_path / "mine.txt")).labels == ("cat", "dog", "emu")


def test_files_of_another_name_beside_those_of_a_split_are_not_pooled(tmp_path):
    for part in ("train", "eval", "rest"):
        write(tmp_path / f"{part}-0", [(b"x", 0), (b"y", 1)])
    with pytest.raises(UserError, match="the files 'eval-0', 'train-0' beside 'rest-0'"):
        open_source(f"tfrecord:{tmp_path}/*")
    chosen = open_source(f"tfrecord:{tmp_path}/*", split_names="train=rest-*,test=train-0")
    assert {name: len(split) for name, split in chosen.splits.items()} == {"train": 2, "test": 2}
    (tmp_path / "rest-0").unlink()
    both = open_source(f"tfrecord:{tmp_path}/*")
    assert {name: len(split) for name, split in both.splits.items()} == {
        "train": 2,
        "validation": 2,
    }


def _gzipped(path):
    path.write_bytes(gzip.compress(example(b"x", 0)))


def _torn(path):
    write(path, [(b"x" * 100, 0), (b"y" * 100, 1)])
    path.write_bytes(path.read_bytes()[:-50])


def _not_records(path):
    path.write_bytes(b"no records here" * 10)


def _other_features(path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example(b"x", 0, keys=("picture", "kind")))


def _not_examples(path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: None, "no file matches .*; give tfrecord:GLOB, in quotes"),
        (lambda path: path.touch(), "train-0 is empty"),
        (_gzipped, "train-0 is compressed; unpack it first, with gunzip"),
        (_torn, r"train-0 is not a TFRecord file, or it is truncated at byte \d+ of \d+"),
        (_not_records, "train-0 is not a TFRecord file, or it is truncated at byte 0 of 150"),
        (_other_features, "train-0 has kind, picture, not 'image/encoded' and"),
        (_not_examples, "train-0 record 0 is not a tf.Example"),
        (lambda path: write(path, [(b"x", 0)]), "has label 0, below the label offset 1"),
    ],
)
def test_files_that_cannot_be_used_are_one_sentence(tmp_path, spoil, sentence):
    spoil(tmp_path / "train-0")
    with pytest.raises(UserError, match=sentence):
        open_source(f"tfrecord:{tmp_path}/train-*", label_offset=1)


def test_too_few_names_for_the_labels_are_refused(tmp_path):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 2)])
    (tmp_path / "labels.json").write_text('["cat", "dog"]')
    with pytest.raises(UserError, match="has 2 names and the data has label 2, which is class 2"):
        open_source(f"tfrecord:{tmp_path}/train-*")


def test_a_labels_file_that_is_no_list_is_refused(tmp_path):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)])
    (tmp_path / "labels.json").write_text('{"1": "cat"}')
    with pytest.raises(UserError, match=r"labels\.json must be a list of class names"):
        open_source(f"tfrecord:{tmp_path}/train-*")
