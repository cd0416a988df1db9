# SPDX-License-Identifier: Apache-2.0
"""The names of splits: in any case, for folders, files and TFDS alike; none is guessed, none is excluded unasked."""

from __future__ import annotations

import pytest

from inception_tf.data.sources.split_names import assign_splits, resembles_split, split_of_file
from inception_tf.errors import UserError

WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "eval", "dev"),
    "test": ("test", "testing"),
}
SPELLED = [(split, word) for split, words in WORDS.items() for word in words]


@pytest.mark.parametrize(("split", "word"), SPELLED)
def test_every_name_is_its_split_in_any_case(split, word):
    for spelled in (word, word.upper(), word.title()):
        assert assign_splits([spelled], "d") == {split: (spelled,)}
        assert split_of_file(f"mnist-{spelled}.tfrecord-00000-of-00001") == split


def test_splits_come_in_their_order():
    assert list(assign_splits(["test", "dev", "TRN"], "d")) == ["train", "validation", "test"]


@pytest.mark.parametrize(
    "names", [["cat", "dog"], ["bullet_train", "car"], ["test tube", "jar"], []]
)
def test_names_of_classes_are_no_splits(names):
    assert assign_splits(names, "d") == {}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["train", "extra"],
            "d has the folders 'train' beside 'extra': say which are splits,"
            " --split-names train=train,validation=extra, or that none is, --split-names none",
        ),
        (["cat", "dog", "test"], "'test' beside 'cat', 'dog'"),
        (["train", "Validate"], "'train' beside 'Validate'"),
        (["cat", "dog", "test_images"], "'cat', 'dog', 'test_images'"),
        (["train2017", "val2017"], "train2017"),
        (["seg_train", "seg_pred"], "seg_pred"),
        (
            ["Train", "train"],
            "which are all named like train; choose with --split-names train=Train",
        ),
        (["val", "valid", "train"], "'val', 'valid', which are all named like validation"),
    ],
)
def test_what_could_be_a_split_or_not_is_asked(names, sentence):
    with pytest.raises(UserError) as error:
        assign_splits(names, "d")
    assert sentence in str(error.value)


def test_a_choice_is_taken_and_leaves_the_rest_out():
    names = ["A", "B", "B2", "rest"]
    assert assign_splits(names, "d", chosen="train=A,validation=B") == {
        "train": ("A",),
        "validation": ("B",),
    }
    assert assign_splits(names, "d", chosen="test=B*") == {"test": ("B", "B2")}
    assert assign_splits(names, "d", chosen="train=A,train=rest") == {"train": ("A", "rest")}
    assert assign_splits(["train", "car"], "d", chosen="none") == {}
    assert assign_splits(["x[1]", "x1"], "d", chosen="train=x[1]") == {"train": ("x[1]",)}


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ("A", "must be train=A,validation=B or none, got 'A'"),
        ("train=", "must be train=A,validation=B or none"),
        (
            "valid=A",
            "unknown split in --split-names 'valid'; known: train, validation, test; did you",
        ),
        ("train=C", "train=C matches nothing: d has the folders 'A', 'B'"),
        ("train=A,test=*", "gives 'A' to train and to test"),
    ],
)
def test_a_choice_that_cannot_be_is_a_sentence(chosen, sentence):
    with pytest.raises(UserError) as error:
        assign_splits(["A", "B"], "d", chosen=chosen)
    assert sentence in str(error.value)


def test_a_file_of_two_splits_is_asked():
    with pytest.raises(UserError, match="has the words of train and validation"):
        split_of_file("train-val-00000")


@pytest.mark.parametrize(
    "name", ["training_set", "Test Images", "train2017", "seg_test", "Validate", "trainset"]
)
def test_names_near_those_of_splits_are_recognized(name):
    assert resembles_split(name)


@pytest.mark.parametrize("name", ["bullet_train", "test tube", "dev board", "data", "set 1", "cat"])
def test_names_of_things_are_not(name):
    assert not resembles_split(name)
