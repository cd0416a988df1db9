# SPDX-License-Identifier: Apache-2.0
"""The list of all records: damage that is skipped and counted, compressed files, and what is kept between runs."""

from __future__ import annotations

import gzip
import logging
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf
from example_files import example, write

from inception_tf.data.loading import record_reader
from inception_tf.data.skipped import BadImages
from inception_tf.data.sources import record_examples, tfrecords
from inception_tf.data.sources.open import open_source
from inception_tf.data.sources.record_files import (
    CHUNK,
    Damage,
    Record,
    has_valid_checksum,
    read_records,
)
from inception_tf.errors import UserError
from inception_tf.host.files import cache_folder

LENGTHS = (8, 200, 0, 5000, 3)
FRAME = 16  # bytes around a record


def records(path, contents):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return str(path)


@pytest.fixture
def plain(tmp_path):
    rng = np.random.default_rng(0)
    return records(tmp_path / "plain", [rng.bytes(length) for length in LENGTHS])


def read(file):
    return list(read_records(file))


def flip(file, offset, bit=0):
    with open(file, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1 << bit]))


def test_records_are_those_that_tensorflow_reads(plain):
    found = read(plain)
    theirs = list(tf.data.TFRecordDataset(plain).as_numpy_iterator())
    assert [one.content for one in found] == theirs
    places = [one.offset for one in found]
    assert places == [0, *np.cumsum([length + FRAME for length in LENGTHS])[:-1]]
    assert [one.length for one in read_records(plain, contents=False)] == list(LENGTHS)
    assert all(has_valid_checksum(plain, place) for place in places)


@pytest.mark.parametrize("number", range(len(LENGTHS)))
@pytest.mark.parametrize("byte", [0, 3, 7, 9])  # of the length and of its checksum
def test_after_a_damaged_length_the_next_record_is_found(plain, number, byte):
    whole = read(plain)
    flip(plain, whole[number].offset + byte, bit=5)
    found = read(plain)
    assert isinstance(found[number], Damage)
    assert found[:number] + found[number + 1 :] == whole[:number] + whole[number + 1 :]


def test_the_next_record_is_found_beyond_a_part_of_the_search(tmp_path):
    file = records(tmp_path / "x", [b"a", bytes(3 * CHUNK), b"b"])
    flip(file, 17)
    damage, last = read(file)[1:]
    assert (last.content, damage.reason) == (
        b"b",
        f"damaged: bytes 17 to {last.offset:,} are no record",
    )


@pytest.mark.parametrize("cut", [1, 3, 4, 10, 18])
def test_a_truncated_last_record_is_damage(plain, cut):
    whole = read(plain)
    os.truncate(plain, os.path.getsize(plain) - cut)
    *found, last = read(plain)
    assert found == whole[:-1]
    assert last.reason.startswith("damaged: ")


def test_a_wrong_checksum_is_found(plain):
    first = read(plain)[1]
    flip(plain, first.offset + 20)
    assert not has_valid_checksum(plain, first.offset)
    assert isinstance(read(plain)[1], Record)  # reading the images verifies it


def test_a_file_that_changes_meanwhile_is_refused(plain):
    reading = read_records(plain)
    next(reading)
    with open(plain, "ab") as stream:
        stream.write(b"more")
    with pytest.raises(UserError, match="changed while it was read"):
        list(reading)


def rows(count):
    return [(b"image %d" % number, number % 2) for number in range(count)]


def test_damaged_records_are_skipped_and_counted(tmp_path):
    file = tmp_path / "train-0"
    good = [example(*row) for row in rows(96)]
    records(file, [*good[:40], b"", b"\xff\xff", example(b"z", 1)[:-2], *good[40:]])
    places = [one.offset for one in read(str(file))]
    flip(file, places[50])  # a length
    flip(file, places[98] + 11)
    flip(file, places[60] + 12 + good[57].index(b"image/class") + 4)  # the name of a feature
    label = places[70] + 12 + good[67].index(b"\x1a\x03\x0a\x01") + 4
    flip(file, label, bit=6)  # a label of 64 or 65, fewer than records
    os.truncate(file, os.path.getsize(file) - 20)
    split = open_source(f"tfrecord:{tmp_path}/*", split_names="train=*").split("all")
    assert len(split) == 99 - 7
    reasons = {
        name.rpartition(" ")[2]: why.partition(":")[0] for name, why in split.damaged.items()
    }
    assert reasons.pop("40") == "empty"
    assert reasons == dict.fromkeys(["41", "42", "50", "60", "70", "98"], "damaged")
    bad = BadImages(split, 0.1)
    assert (bad.count, bad.total) == (7, 99)
    assert bad.reasons == split.damaged
    with pytest.raises(
        UserError, match=r"^7 of 99 images cannot be read, more than 1\.00%: .* \(empty\), "
    ):
        BadImages(split)


def test_damage_is_of_the_split_of_its_file(tmp_path):
    records(tmp_path / "train-0", [b"", example(b"x", 0)])
    records(tmp_path / "test-0", [example(b"y", 0), b"\xff"])
    source = open_source(f"tfrecord:{tmp_path}/*")
    for name, number in (("train", 0), ("test", 1)):
        assert list(source.split(name).damaged) == [f"{tmp_path}/{name}-0 record {number}"]
    assert len(source.split("all").damaged) == 2


def compressed(path, kind, contents):
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=kind)) as writer:
        for content in contents:
            writer.write(content)


def images(split):
    read = tf.function(record_reader(split.images))
    return [read(tf.constant(index)).numpy() for index in range(len(split))]


def test_compressed_and_plain_files_are_read_together(tmp_path, caplog):
    parts = [[example(b"%d %d" % (part, n), n % 2) for n in range(5)] for part in range(3)]
    compressed(tmp_path / "train-0.gz", "GZIP", parts[0])
    compressed(tmp_path / "train-1", "ZLIB", parts[1])
    compressed(tmp_path / "train-2", "", parts[2])
    for _ in range(2):
        split = open_source(f"tfrecord:{tmp_path}/*", split_names="train=*").split("all")
        assert sorted(images(split)) == sorted(one for part in parts for one in part)
    assert caplog.text.count("which is compressed, to ") == 2  # once each
    assert sorted(split.describe(n) for n in range(15)) == sorted(
        f"{tmp_path}/{name} record {n}"
        for name in ("train-0.gz", "train-1", "train-2")
        for n in range(5)
    )


def test_several_gzip_streams_in_a_file_are_read(tmp_path):
    plain = tmp_path / "plain"
    records(plain, [example(*row) for row in rows(6)])
    content = plain.read_bytes()
    (tmp_path / "train-0").write_bytes(
        gzip.compress(content[:100]) + gzip.compress(content[100:]) + bytes(512)
    )
    assert len(open_source(f"tfrecord:{tmp_path}/train-0").split("all")) == 6


@pytest.mark.parametrize("spoil", ["cut", "flip"])
def test_a_compressed_file_without_its_ending_is_damage(tmp_path, spoil):
    rng = np.random.default_rng(0)
    contents = [example(rng.bytes(3000), n % 2) for n in range(40)]
    file = tmp_path / "train-0"
    compressed(file, "GZIP", contents)
    if spoil == "cut":
        os.truncate(file, os.path.getsize(file) - 4000)
    else:
        flip(file, os.path.getsize(file) - 6)  # of the checksum at its end
    for _ in range(2):
        split = open_source(f"tfrecord:{file}").split("all")
        assert len(split) == 40 if spoil == "flip" else 37 <= len(split) < 40
        why = split.damaged[f"end of {file}"]
        assert why == "the compressed file ends early, so that records may be missing"


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b""), b"\x1f\x8b", zlib.compress(b"text" * 99)],
    ids=["empty", "cut", "zlib"],
)
def test_compressed_files_without_records_are_one_sentence(tmp_path, content):
    (tmp_path / "train-0").write_bytes(content)
    with pytest.raises(UserError, match="train-0 is compressed, and "):
        open_source(f"tfrecord:{tmp_path}/*")


def index_files():
    folder = cache_folder() / "records"
    return set(folder.iterdir()) if folder.is_dir() else set()


@pytest.fixture
def reads(monkeypatch):
    """The record files that are read in full."""
    found = []

    def read(file, **options):
        found.append(file)
        return read_records(file, **options)

    monkeypatch.setattr(record_examples, "read_records", read)
    return found


def same(one, other):
    assert one.labels == other.labels
    for name, split in one.splits.items():
        theirs = other.splits[name]
        np.testing.assert_array_equal(split.classes, theirs.classes)
        for part in ("locations", "digests"):
            np.testing.assert_array_equal(getattr(split.images, part), getattr(theirs.images, part))
        assert [split.describe(n) for n in range(len(split))] == [
            theirs.describe(n) for n in range(len(theirs))
        ]
        assert split.damaged == theirs.damaged


def test_the_files_are_read_once_until_one_changes(tmp_path, reads):
    records(tmp_path / "train-0", [example(b"a", 0, "cat"), b"", example(b"b", 1, "dog")])
    write(tmp_path / "test-0", rows(4))
    name = f"tfrecord:{tmp_path}/*"
    first = open_source(name)
    assert reads
    reads.clear()
    same(open_source(name), first)
    assert not reads
    write(tmp_path / "test-0", rows(5))
    assert len(open_source(name).split("test")) == 5
    assert reads


@pytest.mark.parametrize("spoil", ["cut", "flip", "text", "empty"])
def test_a_damaged_index_is_made_again(tmp_path, reads, spoil):
    write(tmp_path / "train-0", rows(50))
    before = index_files()
    first = open_source(f"tfrecord:{tmp_path}/*")
    (index,) = index_files() - before
    if spoil == "flip":
        flip(index, index.stat().st_size // 2)
    else:
        content = {"cut": index.read_bytes()[:-100], "text": b"no index", "empty": b""}[spoil]
        index.write_bytes(content)
    reads.clear()
    same(open_source(f"tfrecord:{tmp_path}/*"), first)
    assert reads


def test_without_a_cache_folder_the_index_is_made_every_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    write(tmp_path / "train-0", rows(4))
    with caplog.at_level(logging.WARNING, "inception_tf"):
        assert len(open_source(f"tfrecord:{tmp_path}/train-0").split("all")) == 4
    assert "the list of records is not kept, and is made again at the next start" in caplog.text


def test_names_of_classes_that_differ_are_not_used(tmp_path, caplog):
    write(tmp_path / "train-0", [(b"x", 0, "a cat"), (b"y", 0, "a dog"), (b"z", 1, "emu")])
    source = open_source(f"tfrecord:{tmp_path}/*")
    assert (source.labels, source.named) == (("0", "1"), False)
    assert "label 0 is named 'a cat' and 'a dog'" in caplog.text


def test_files_whose_records_are_all_damaged_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecords, "MOST_CHECKED", 5)
    file = tmp_path / "train-0"
    write(file, rows(30))
    for one in read(str(file)):
        flip(file, one.offset + 12 + one.length)  # the checksum of its content
    with pytest.raises(
        UserError, match="and 4 more records have impossible labels and wrong checksums"
    ):
        open_source(f"tfrecord:{file}")
    write(file, rows(3))
    for one in read(str(file)):
        flip(file, one.offset + 12 + one.length)
    with pytest.raises(
        UserError, match="no record can be read; .*: damaged: the checksum is wrong"
    ):
        open_source(f"tfrecord:{file}")
