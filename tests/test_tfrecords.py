# SPDX-License-Identifier: Apache-2.0
"""TFRecord files: splits and names, labels with and without a background, reading by place, damage."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from example_files import write

from inception_tf.data.loading import record_reader
from inception_tf.data.sources.open import open_source
from inception_tf.errors import UserError
from inception_tf.host import files


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
    split = open_source(f"tfrecord:{test_data / 'cifar10_12k'}/*").split("train")
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


def _not_records(path):
    path.write_bytes(b"no records here" * 10)


def _gzipped_text(path):
    path.write_bytes(gzip.compress(b"no records here" * 10))


def _other_features(path):
    write(path, [(b"x", 0)], keys=("picture", "kind"))


def _not_examples(path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: None, "no file matches .*; give tfrecord:GLOB, in quotes"),
        (
            lambda path: path.mkdir(),
            r"no file matches .*: .*train-0 \(a folder\); give tfrecord:GLOB",
        ),
        (lambda path: os.mkfifo(path), r"train-0 \(a named pipe\); give tfrecord:GLOB"),
        (lambda path: path.symlink_to("/dev/zero"), r"train-0 \(a device\); give tfrecord:GLOB"),
        (lambda path: path.symlink_to(path), "train-0 is a link that leads back to itself"),
        (lambda path: path.touch(), "train-0 is empty"),
        (_gzipped_text, "train-0 is compressed, and what is in it is not a TFRecord file"),
        (_not_records, "train-0 is not a TFRecord file"),
        (
            _other_features,
            r"train-0 record 0 has the features kind \(integers\), picture \(bytes\), not 'image/encoded' and"
            " 'image/class/label' or 'image' and 'label'; say with --key image=KEY,label=KEY which",
        ),
        (
            _not_examples,
            "no record of .*train-0.* can be read; .*train-0 record 0: damaged: not a tf.Ex",
        ),
        (
            lambda path: write(path, [(b"x", 0)]),
            "has label 0, below the label offset 1; use --label-offset 0",
        ),
    ],
)
def test_files_that_cannot_be_used_are_one_sentence(tmp_path, monkeypatch, spoil, sentence):
    monkeypatch.setattr(files, "RETRY_DELAYS_S", ())
    spoil(tmp_path / "train-0")
    with pytest.raises(UserError, match=sentence):
        open_source(f"tfrecord:{tmp_path}/train-*", label_offset=1)


def test_a_missing_shard_is_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RETRY_DELAYS_S", ())
    write(tmp_path / "train-0", [(b"x", 0)])
    (tmp_path / "train-1").symlink_to("moved")
    with pytest.raises(UserError, match="train-1 is a link to a missing file"):
        open_source(f"tfrecord:{tmp_path}/train-*")


def _examples(path, *features):
    """Records with (image, label) as any of the three kinds of feature."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in features:
            values = {"image/encoded": image, "image/class/label": label}
            given = {key: value for key, value in values.items() if value is not None}
            writer.write(
                tf.train.Example(features=tf.train.Features(feature=given)).SerializeToString()
            )


IMAGE = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))


def _integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


FLOATS = tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))


@pytest.mark.parametrize(
    ("image", "label", "sentence"),
    [
        (
            IMAGE,
            _integers(10**9),
            "has label 1000000000, which makes 1,000,000,001 classes of 4 records;",
        ),
        (IMAGE, _integers(2**62), "has label 4611686018427387904, which makes"),
        (IMAGE, _integers(2**63 - 1), "has label 9223372036854775807, which makes"),
        (
            IMAGE,
            _integers(4),
            "has label 4, which makes 5 classes of 4 records; correct it, or name all",
        ),
        (
            IMAGE,
            _integers(-1),
            "has label -1; labels count from 0, and this one is no class: correct",
        ),
        (IMAGE, _integers(-(2**63)), "has label -9223372036854775808; labels count from 0"),
        (
            IMAGE,
            _integers(1, 2),
            "has 2 integers in 'image/class/label', which must be a single integer",
        ),
        (IMAGE, _integers(), "has 0 integers in 'image/class/label'"),
        (IMAGE, FLOATS, "has 1 floats in 'image/class/label', which must be a single integer"),
        (IMAGE, IMAGE, "has 1 bytes in 'image/class/label'"),
        (IMAGE, tf.train.Feature(), "has 0 nothing in 'image/class/label'"),
        (
            IMAGE,
            None,
            r"has the features image/encoded \(bytes\), not 'image/encoded' and 'image/class/l",
        ),
        (FLOATS, _integers(1), "has floats in 'image/encoded', which must be one encoded image"),
    ],
)
def test_an_impossible_label_is_named_with_its_record(tmp_path, image, label, sentence):
    good = [(IMAGE, _integers(n)) for n in range(3)]
    _examples(tmp_path / "train-0", *good, (image, label))
    with pytest.raises(UserError, match=f"train-0 record 3 {sentence}") as error:
        open_source(f"tfrecord:{tmp_path}/train-*")
    assert "--label-offset" not in str(error.value)


def test_a_label_beyond_the_names_is_named_with_its_record(tmp_path):
    write(tmp_path / "train-0", [(b"x", n) for n in (0, 1, 10**9, 2)])
    (tmp_path / "labels.txt").write_text("cat\ndog\nemu\n")
    with pytest.raises(
        UserError, match=r"record 2 has label 1000000000, and .*labels\.txt has 3 names"
    ):
        open_source(f"tfrecord:{tmp_path}/train-*")
    with pytest.raises(UserError, match=r"record 0 has label 0, below the label offset 2"):
        open_source(f"tfrecord:{tmp_path}/train-*", label_offset=2)


def test_labels_may_exceed_the_records_where_these_name_their_classes(tmp_path):
    write(tmp_path / "train-0", [(b"x", 7, "cat"), (b"y", 999, "dog")])
    source = open_source(f"tfrecord:{tmp_path}/train-*")
    assert (len(source.labels), source.labels[7], source.named) == (1000, "cat", False)
    write(tmp_path / "train-0", [(b"x", 7, "cat"), (b"y", 10**7, "dog")])
    with pytest.raises(
        UserError, match="record 1 has label 10000000, which makes 10,000,001 classes"
    ):
        open_source(f"tfrecord:{tmp_path}/train-*")


def test_other_features_are_read_by_their_names(tmp_path):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)], keys=("jpg", "a=b,c"))
    source = open_source(f"tfrecord:{tmp_path}/*", key="image=jpg,label=a=b,c")
    assert source.split("all").images.image_key == "jpg"
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)], keys=("jpg", "image/class/label"))
    assert len(open_source(f"tfrecord:{tmp_path}/*", key="image=jpg").split("all")) == 2
    with pytest.raises(
        UserError, match="not 'png' and 'image/class/label' or 'png' and 'label'; say"
    ):
        open_source(f"tfrecord:{tmp_path}/*", key="image=png")


@pytest.mark.parametrize(
    "key", ["", "jpg", "image=", "picture=a,label=b", "image=a,image=b", "=,="]
)
def test_a_key_of_another_form_is_refused(tmp_path, key):
    write(tmp_path / "train-0", [(b"x", 0)])
    with pytest.raises(
        UserError, match="--key must be image=KEY,label=KEY or one of them, such as"
    ):
        open_source(f"tfrecord:{tmp_path}/*", key=key)


def test_a_second_layout_among_the_files_is_named(tmp_path):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)])
    write(tmp_path / "train-1", [(b"x", 0)], keys=("jpg", "cls"))
    with pytest.raises(
        UserError, match=r"train-1 record 0 has the features cls \(integers\), jpg \(byt"
    ):
        open_source(f"tfrecord:{tmp_path}/*")


def test_files_beside_the_records_are_named_and_not_read(tmp_path):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)])
    (tmp_path / "train-1").touch()
    (tmp_path / "train-0.idx").write_text("0 57\n")
    (tmp_path / "labels.PBTXT").write_text("item { id: 1 }")
    (tmp_path / "more").mkdir()
    os.mkfifo(tmp_path / "pipe")
    source = open_source(f"tfrecord:{tmp_path}/*")
    assert {os.path.basename(path): why for path, why in source.unread.items()} == {
        "train-0.idx": "an index of another program",
        "labels.PBTXT": "a label map",
        "more": "a folder",
        "pipe": "a named pipe",
        "train-1": "empty",
    }
    assert len(source.split("train")) == 2


def test_files_in_a_folder_named_like_a_split_are_of_that_split(tmp_path):
    for folder, count in (("train", 2), ("EVAL", 3), ("other", 4)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "part-0", [(b"x", n % 2) for n in range(count)])
    both = open_source(f"tfrecord:{tmp_path}/[tE]*/*")
    assert {name: len(split) for name, split in both.splits.items()} == {
        "train": 2,
        "validation": 3,
    }
    assert list(open_source(f"tfrecord:{tmp_path}/EVAL/*").splits) == ["validation"]
    with pytest.raises(
        UserError, match="the files 'EVAL/part-0', 'train/part-0' beside 'other/part-0'"
    ):
        open_source(f"tfrecord:{tmp_path}/*/*")


def test_shards_are_one_name_in_the_message(tmp_path):
    for number in range(12):
        write(tmp_path / f"train-{number:05}-of-00012", [(b"x", 0), (b"y", 1)])
        write(tmp_path / f"rest-{number:05}-of-00012", [(b"x", 0), (b"y", 1)])
    with pytest.raises(UserError, match=r"the files 'train-\*-of-\*' beside 'rest-\*-of-\*': say"):
        open_source(f"tfrecord:{tmp_path}/*")
    chosen = open_source(f"tfrecord:{tmp_path}/*", split_names="train=train-*")
    assert len(chosen.split("train")) + len(chosen.split("validation")) == 24
    assert set(chosen.unread.values()) == {"not named by --split-names"}


def test_lists_of_names_that_disagree_are_refused(tmp_path):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)])
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "labels.json").write_text('["cat", "dog"]')
    assert open_source(f"tfrecord:{tmp_path}/train-*").labels == ("cat", "dog")
    (tmp_path / "labels.json").write_text('["dog", "cat"]')
    with pytest.raises(UserError, match=r"labels\.txt and .*labels\.json name different classes"):
        open_source(f"tfrecord:{tmp_path}/train-*")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        '["cat", 3]',
        "3",
        '{"0": "a", "0": "b"}',
        "[]",
    ],
)
def test_json_of_another_form_is_one_sentence(tmp_path, content):
    write(tmp_path / "train-0", [(b"x", 0), (b"y", 1)])
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match=r"labels\.json "):
        open_source(f"tfrecord:{tmp_path}/train-*")


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
