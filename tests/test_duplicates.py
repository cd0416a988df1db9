# SPDX-License-Identifier: Apache-2.0
"""Images with equal bytes in training and evaluation are found, in files and in records."""

from __future__ import annotations

import os

import numpy as np
import pytest
from example_files import write

from inception_tf import cli
from inception_tf.data import duplicates
from inception_tf.data.duplicates import duplicates_warning, equal_images
from inception_tf.data.sources.open import open_source
from inception_tf.host.files import cache_folder


@pytest.fixture
def folder(tmp_path):
    """Images of one size: 1.png is in both splits, 2.png is another from the middle on, 3.png at its end."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
    train, val = tmp_path / "set" / "train", tmp_path / "set" / "val"
    for number in range(4):
        content = rng.bytes(20_000)
        (train / "a" / f"{number}.png").write_bytes(content)
        other = {1: content, 2: content[:9000] + b"x" + content[9001:], 3: content[:-1] + b"x"}
        (val / "b" / f"{number}.png").write_bytes(other.get(number, rng.bytes(20_000)))
    (train / "b" / "9.png").write_bytes(rng.bytes(30))
    (val / "a" / "9.png").write_bytes(rng.bytes(40))
    return tmp_path / "set"


def test_equal_files_are_found(folder):
    (one,) = equal_images(open_source(f"folder:{folder}"))
    assert (one.train, one.split, one.image) == (
        f"{folder}/train/a/1.png",
        "validation",
        f"{folder}/val/b/1.png",
    )


def test_equal_bytes_make_equal_files_whatever_their_names(folder):
    (folder / "train" / "b" / "9.png").write_bytes((folder / "val" / "a" / "9.png").read_bytes())
    found = equal_images(open_source(f"folder:{folder}"))
    assert [os.path.basename(one.image) for one in found] == ["9.png", "1.png"]
    assert duplicates_warning(found).startswith(
        f"validation: 2 images that are also in train, byte by byte, so that accuracy is overestimated:"
        f" {folder}/val/a/9.png = {folder}/train/b/9.png, {folder}/val/b/1.png = "
    )
    assert duplicates_warning([]) is None


def test_what_was_hashed_is_not_read_in_full_again(folder, monkeypatch):
    opened = []

    def open_counted(path, real=duplicates.open_regular):
        opened.append(path)
        return real(path)

    monkeypatch.setattr(duplicates, "open_regular", open_counted)
    source = open_source(f"folder:{folder}")
    first = equal_images(source)
    # The ends of eight files of one size, and all of those whose ends agree.
    assert len(opened) == 8 + 4
    opened.clear()
    assert equal_images(source) == first
    assert len(opened) == 8
    image = folder / "val" / "b" / "1.png"
    image.write_bytes(image.read_bytes()[:-1] + b"y")
    assert equal_images(open_source(f"folder:{folder}")) == []


def test_of_many_files_the_result_is_kept_until_one_changes(folder, monkeypatch):
    monkeypatch.setattr(duplicates, "KEPT_FROM", 1)
    source = open_source(f"folder:{folder}")
    first = equal_images(source)
    monkeypatch.setattr(duplicates, "_digests", None)
    assert equal_images(source) == first
    image = folder / "val" / "b" / "0.png"
    image.write_bytes(image.read_bytes()[:-1] + b"y")
    with pytest.raises(TypeError):
        equal_images(open_source(f"folder:{folder}"))


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', "{"])
def test_damaged_hashes_are_made_again(folder, content):
    source = open_source(f"folder:{folder}")
    first = equal_images(source)
    for file in (cache_folder() / "hashes").iterdir():
        file.write_text(content)
    assert equal_images(source) == first


def test_equal_records_are_found_whatever_their_labels(tmp_path):
    write(tmp_path / "train-0", [(b"a", 0), (b"b", 1), (b"b", 1)])
    write(tmp_path / "eval-0", [(b"c", 0), (b"b", 0)])
    write(tmp_path / "test-0", [(b"a", 1), (b"d", 0)])
    found = equal_images(open_source(f"tfrecord:{tmp_path}/*"))
    place = str(tmp_path)
    assert [(one.train, one.split, one.image) for one in found] == [
        (f"{place}/train-0 record 1", "validation", f"{place}/eval-0 record 1"),
        (f"{place}/train-0 record 0", "test", f"{place}/test-0 record 0"),
    ]


def test_data_says_how_many_and_check_lists_them(tmp_path, capsys):
    write(tmp_path / "train-0", [(b"no image %d" % n, n % 2) for n in range(8)])
    write(tmp_path / "eval-0", [(b"no image %d" % n, n % 2) for n in range(2, 12)])
    assert cli.main(["data", f"tfrecord:{tmp_path}/*"]) == 0
    text = capsys.readouterr().out
    assert "warning: validation: 6 images that are also in train, byte by byte" in text
    assert text.count("eval-0 record") == 3
    assert cli.main(["data", f"tfrecord:{tmp_path}/*", "--check"]) == 0
    text = capsys.readouterr().out
    assert "decoded: 0 images, 18 cannot be read" in text
    rows = [line.split() for line in text.partition("the same in train")[2].splitlines()]
    assert sum(bool(row) and row[0] == "validation" for row in rows) == 6


def test_pixels_and_single_splits_have_nothing_to_compare(tmp_path):
    assert equal_images(open_source("digits")) == []
    write(tmp_path / "test-0", [(b"a", 0), (b"a", 1)])
    assert equal_images(open_source(f"tfrecord:{tmp_path}/*")) == []


def test_more_files_than_allowed_are_not_opened_and_that_is_said(folder, monkeypatch):
    source = open_source(f"folder:{folder}")
    assert len(equal_images(source, most=8)) == 1
    monkeypatch.setattr(duplicates, "open_regular", None)
    assert equal_images(source, most=7) is None
    assert "too many files have equal sizes; --check compares them" in duplicates_warning(None)
