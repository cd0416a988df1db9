# SPDX-License-Identifier: Apache-2.0
"""Data by name: the embedded digits, class folders, splits, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from inception_tf.data.sources.open import open_source, with_absolute_path
from inception_tf.errors import UserError


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


def test_a_folder_of_classes_is_held_out_by_class(class_folders):
    source = open_source(f"folder:{class_folders(blue=20, red=10)}")
    assert source.labels == ("blue", "red")
    train, validation = source.split("train"), source.split()
    assert not set(train.images) & set(validation.images)
    assert np.bincount(validation.classes).tolist() == [2, 1]
    assert len(train) == 27


def test_a_folder_is_divided_by_its_files_alone(class_folders):
    """The permutation is `RandomState(20150211).permutation(30)`, so the held-out files are known on every machine."""
    folder = class_folders(blue=20, red=10)
    held = [path.split("/", -1)[-2:] for path in open_source(f"folder:{folder}").split().images]
    order = np.random.RandomState(20150211).permutation(30)
    files = sorted(str(number) for number in range(20)), sorted(str(number) for number in range(10))
    blue = [i for i in order if i < 20][:2]
    red = [i for i in order if i >= 20][:1]
    expected = [["blue", f"{files[0][i]}.jpg"] for i in sorted(blue)]
    assert held == expected + [["red", f"{files[1][i - 20]}.jpg"] for i in red]


def test_a_folder_with_splits_keeps_them(test_data):
    source = open_source(f"folder:{test_data / 'flowers12'}")
    assert len(source.labels) == 12
    sizes = {name: len(split) for name, split in source.splits.items()}
    assert sizes == {"train": 720, "test": 240}


def test_all_is_every_image_once(class_folders, test_data):
    for name in (f"folder:{class_folders(blue=20, red=10)}", "digits"):
        source = open_source(name)
        whole = source.split("all")
        assert len(whole) == sum(map(len, source.splits.values()))
    paths = open_source(f"folder:{test_data / 'flowers12'}").split("all").images
    assert len(set(paths)) == 960


def test_a_folder_with_one_class_is_refused(class_folders):
    with pytest.raises(UserError, match="needs at least two class folders, found only 'red'"):
        open_source(f"folder:{class_folders(red=2)}")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs at least two class folders, found none"):
        open_source(f"folder:{tmp_path}")


def test_images_without_labels_are_sent_to_predict(class_folders, tmp_path):
    folder = class_folders(red=3)
    with pytest.raises(UserError, match=f"inception-tf predict RUN {folder}"):
        open_source(f"folder:{folder}")
    (folder / "red").rename(tmp_path / "unsorted")
    with pytest.raises(
        UserError, match="found none, and 3 images outside of class folders; images"
    ):
        open_source(f"folder:{tmp_path / 'unsorted'}")
    (tmp_path / "list.csv").write_text("path,width\nunsorted/0.jpg,40\n")
    with pytest.raises(UserError, match="images without labels are classified with inception-tf"):
        open_source(f"csv:{tmp_path}/list.csv")


def test_class_folders_without_images_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="has no images"):
        open_source(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "digit",
            "unknown data 'digit'; known: digits, tfds:NAME[/VERSION], folder:PATH, tfrecord:GLOB, csv:FILE;"
            " did you mean 'digits'?",
        ),
        ("digits:2", "unknown data 'digits:2'"),
        ("folder:", "unknown data 'folder:'"),
        ("tfds:", "unknown data 'tfds:'"),
        ("folder:/nowhere/at/all", "there is no folder /nowhere/at/all"),
        ("/", "a folder is given as folder:/"),
    ],
)
def test_unknown_data_is_one_sentence(name, sentence):
    with pytest.raises(UserError) as error:
        open_source(name)
    assert sentence in str(error.value)


def test_a_label_offset_is_for_records_alone():
    with pytest.raises(UserError, match="a label offset is for tfrecord: data; digits counts"):
        open_source("digits", label_offset=1)


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(
        UserError,
        match="unknown split of digits 'tests'; known: train, test, all; did you mean 'test'?",
    ):
        open_source("digits").split("tests")


def test_a_path_is_made_absolute_and_a_name_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert with_absolute_path("folder:flowers") == f"folder:{tmp_path}/flowers"
    assert with_absolute_path("tfrecord:a/train-*") == f"tfrecord:{tmp_path}/a/train-*"
    assert with_absolute_path("digits") == "digits"
    assert with_absolute_path("tfds:mnist/3.0.1") == "tfds:mnist/3.0.1"
