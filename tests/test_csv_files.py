# SPDX-License-Identifier: Apache-2.0
"""CSV files with a path, a label and perhaps a split per line, as Keras', timm's and Kaggle's users have them."""

from __future__ import annotations

import pytest

from inception_tf.data.sources.open import inspect_source, open_source
from inception_tf.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(b"x" * (number + 1))
    return tmp_path


def write(folder, text, **options):
    (folder / "list.csv").write_text(text, **options)
    return f"csv:{folder}/list.csv"


PLAIN = "path,label\n0.jpg,cat\n1.jpg,cat\n2.jpg,dog\n3.jpg,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN.replace("\n", "\r\n") + "\r\n\r\n",
        PLAIN.replace("path,label", "filename,class"),  # Keras' defaults
        PLAIN.replace("path,label", "Image,Label"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.removeprefix("path,label\n"),
        "label,id,filepath\ncat,1,0.jpg\ncat,2,1.jpg\ndog,3,2.jpg\ndog,4,3.jpg\n",
        'path,label\n"0.jpg","cat"\n1.jpg, cat\n2.jpg,dog \n3.jpg,dog\n',
    ],
)
def test_usual_forms_are_understood(folder, text):
    source = open_source(write(folder, text, encoding="utf-8", newline=""))
    assert source.labels == ("cat", "dog")
    whole = source.split("all")
    assert sorted(whole.images) == [f"{folder}/{n}.jpg" for n in range(4)]
    assert sorted(whole.sizes) == [1, 2, 3, 4]
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 2,
        "validation": 2,
    }


def test_a_column_of_splits_divides_the_images(folder):
    lines = [
        f"{n}.jpg,{'cat' if n % 2 else 'dog'},{s}"
        for n, s in enumerate(("Train", "VAL", "test") * 2)
    ]
    source = open_source(write(folder, "\n".join(["path,label,split", *lines])))
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
    name = write(folder, "\n".join(["path,label,split", *lines]).replace("test", "other"))
    with pytest.raises(UserError, match="'Train', 'VAL' beside 'other'"):
        open_source(name)
    chosen = open_source(name, split_names="train=Train,test=VAL")
    assert len(chosen.split("all")) == 4
    assert list(chosen.unread.values()) == ["in splits that --split-names excludes"] * 2


def test_labels_that_are_numbers_keep_their_order_and_make_no_classes_of_their_own(folder):
    name = write(folder, "path,label\n0.jpg,10\n1.jpg,9\n2.jpg,1000000000\n")
    assert open_source(name).labels == ("9", "10", "1000000000")
    (folder / "names.txt").write_text("cat\ndog\nemu\n")
    names = str(folder / "names.txt")
    name = write(folder, "path,label\n0.jpg,1\n1.jpg,2\n2.jpg,3\n")
    with pytest.raises(UserError, match="--label-offset 1 if the labels count from 1"):
        open_source(name, labels=names)
    source = open_source(name, labels=names, label_offset=1)
    assert [source.labels[k] for k in source.split("all").classes] == ["cat", "dog", "emu"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; its first line names the columns"),
        ("a,b\n0.jpg,cat\n", "no column for the image and label; its first line has a, b"),
        ("path,kind\n0.jpg,cat\n", "no column for the label; its first line has path, kind"),
        ("path,file,label\n0.jpg,0.jpg,cat\n", "the columns path and file, which could each be the image"),
        ("path,label\n0.jpg,\n", "line 2 has no label"),
        ("path,label\n0.jpg\n", "line 2 has no label"),
        ("path,label\n,cat\n", "line 2 has no image"),
        ("path,label\n0.jpg,cat\n0.jpg,dog\n", "with the labels 'cat' and 'dog', in lines 2 and 3"),
        ("path,label\n0.jpg,cat\n1.jpg,cat\n", "at least two classes, found only 'cat'"),
        ("path,label\n8.jpg,cat\n9.jpg,dog\n", "none of the 2 files .* is there"),
        ("path,label\n", "lists no image"),
        ('path,label\n"0.jpg,cat\n', "line 2 is no CSV"),
        ("path,label\n0\0.jpg,cat\n", "line 2 has a NUL character"),
        ("path,label\n0.jpg,c\x1bat\n1.jpg,dog\n", r"U\+001B"),
        ("path,label,split\n0.jpg,cat,A\n1.jpg,dog,B\n", "the splits 'A', 'B', and none is train"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence(folder, text, sentence):
    with pytest.raises(UserError, match=sentence):
        open_source(write(folder, text))


def test_a_file_that_is_not_utf_8_is_a_sentence(folder):
    (folder / "list.csv").write_bytes(b"path,label\n0.jpg,caf\xe9\n")
    with pytest.raises(UserError, match="is not UTF-8, from byte 20"):
        open_source(f"csv:{folder}/list.csv")
    with pytest.raises(UserError, match=r"none\.csv is missing"):
        open_source(f"csv:{folder}/none.csv")


def test_lines_that_are_not_read_are_accounted_for(folder):
    name = write(folder, PLAIN + "9.jpg,cat\n0.jpg,cat\nx.txt,dog\n/dev/zero,dog\n.,cat\n")
    source = inspect_source(name)
    assert source.problem is None
    assert source.unread == {
        f"{folder}/9.jpg": "missing",
        f"{folder}/0.jpg, line 7": "listed again",
        f"{folder}/x.txt": "other ending: .txt",
        "/dev/zero": "no ending",
        f"{folder}/.": "no ending",
    }
    assert f"listed files that are missing: 1, '{folder}/9.jpg'" in source.warnings


def test_columns_are_chosen_by_key(folder):
    name = write(folder, "a,b,c,path\n0.jpg,cat,train,q\n1.jpg,dog,train,q\n2.jpg,dog,val,q\n")
    source = open_source(name, key="image=a,label=b,split=c")
    assert {part: len(split) for part, split in source.splits.items()} == {
        "train": 2,
        "validation": 1,
    }
    with pytest.raises(
        UserError, match="has 0 columns 'd' for the image; its columns are a, b, c, path"
    ):
        open_source(name, key="image=d,label=b")
    with pytest.raises(UserError, match="must be image=COLUMN,label=COLUMN,split=COLUMN"):
        open_source(name, key="picture=a")
