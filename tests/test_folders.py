# SPDX-License-Identifier: Apache-2.0
"""Data folders: every file below one is an image of a split, or is not read for a reason that is said."""

from __future__ import annotations

import os
import time
import unicodedata
from collections import Counter

import pytest
from messy_folder import image, make_messy_folder

from inception_tf.data.formats import ENDINGS
from inception_tf.data.sources.open import inspect_source, open_source
from inception_tf.errors import UserError


def files(root, *names):
    """Files with a byte in them: listing opens none."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def sizes(source):
    return {name: len(split) for name, split in source.splits.items()}


def opened(root, **reading):
    return open_source(f"folder:{root}", **reading)


def inspected(root, **reading):
    return inspect_source(f"folder:{root}", **reading)


def test_everything_in_a_messy_folder_is_accounted_for(tmp_path):
    expected = make_messy_folder(tmp_path)
    source = inspected(tmp_path)
    assert sizes(source) | Counter(source.unread.values()) == expected
    below = sum(len(names) for _, _, names in os.walk(tmp_path))
    links_to_folders = 1  # which os.walk counts as folders
    assert sum(expected.values()) == below + links_to_folders
    assert source.problem == (
        f"{tmp_path}/Train/emu/2019 holds 1 image: read what is there as images of the class"
        " with --set data.nested=true, or move them"
    )
    assert [warning.split(":")[0] for warning in source.warnings] == [
        "class folders without an image that is read",
        "links to files among the images",
        "classes of one image, too few to train and to evaluate",
        "3 .heic files not read; in each folder, convert with",
        "1 .tif file not read; in each folder, convert with",
    ]
    with pytest.raises(UserError, match="data.nested=true"):
        opened(tmp_path)
    assert sizes(opened(tmp_path, nested=True)) == {"train": 34, "validation": 7}


def test_the_page_shows_what_data_says_of_the_messy_folder(tmp_path, monkeypatch, root):
    from click.testing import CliRunner

    from inception_tf.cli.data import command

    make_messy_folder(tmp_path / "messy")
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(command, ["folder:messy"])
    page = (root / "docs" / "data.md").read_text(encoding="utf-8")
    for line in said.stdout.splitlines():
        assert f"    {line}\n" in page or not line
    assert f"    inception-tf: {said.exception}\n" in page


@pytest.mark.parametrize("ending", [*ENDINGS, ".JPG", ".Png", ".JPEG"])
def test_a_file_is_an_image_by_its_ending_in_any_case(tmp_path, ending):
    files(tmp_path, f"a/1{ending}", f"a/2{ending}", f"b/1{ending}", f"b/2{ending}")
    assert len(opened(tmp_path).split("all")) == 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/x.heic", "other ending: .heic"),
        ("a/x.AVIF", "other ending: .avif"),
        ("a/desktop.ini", "other ending: .ini"),
        ("a/jpg", "no ending"),
        ("a/x.jpg.part", "other ending: .part"),
        ("a/._x.jpg", "macOS metadata: ._*, __MACOSX"),
        ("__MACOSX/a/x.jpg", "macOS metadata: ._*, __MACOSX"),
        ("a/__MACOSX/x.jpg", "macOS metadata: ._*, __MACOSX"),
        (".git/a/x.jpg", "hidden: .*"),
        ("a/.thumbnails/x.jpg", "hidden: .*"),
        ("a/.x.jpg", "hidden: .*"),
        ("x.jpg", "images outside class folders"),
        ("labels.csv", "other ending: .csv"),
        ("a/sub/notes.txt", "other ending: .txt"),
    ],
)
def test_a_file_that_is_not_read_has_a_reason(tmp_path, name, reason):
    files(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", name)
    source = opened(tmp_path)
    assert source.unread == {f"{tmp_path}/{name}": reason}
    assert len(source.split("all")) == 4


def _fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_fifo, "no regular files: pipes, sockets, devices"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular files: pipes, sockets, devices"),
        (lambda path: path.symlink_to("nowhere.jpg"), "links to missing files"),
        (lambda path: path.symlink_to(path), "links that lead back to themselves"),
        (lambda path: path.symlink_to(".."), "links to folders"),
        (lambda path: path.touch(), "empty files"),
    ],
)
def test_only_regular_files_are_images(tmp_path, make, reason):
    files(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    make(tmp_path / "a" / "x.jpg")
    assert opened(tmp_path).unread == {f"{tmp_path}/a/x.jpg": reason}


def test_a_link_to_a_folder_is_followed_where_it_leads_out_of_the_data(tmp_path):
    files(tmp_path, "there/cat/1.jpg", "there/cat/2.jpg", "d/dog/1.jpg", "d/dog/2.jpg")
    (tmp_path / "d" / "cat").symlink_to(tmp_path / "there" / "cat")
    assert opened(tmp_path / "d").labels == ("cat", "dog")
    # To a class beside it: the same images under two names.  To a folder around it: without end.
    (tmp_path / "d" / "hound").symlink_to("dog")
    (tmp_path / "d" / "up").symlink_to("..")
    source = opened(tmp_path / "d", nested=True)
    assert source.labels == ("cat", "dog")
    assert source.unread == dict.fromkeys(
        (f"{tmp_path}/d/hound", f"{tmp_path}/d/up"), "links to folders"
    )


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_must_not_be_read_is_said(tmp_path):
    files(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "a/x.jpg")
    (tmp_path / "a" / "x.jpg").chmod(0)
    assert opened(tmp_path).unread == {f"{tmp_path}/a/x.jpg": "unreadable: permission denied"}
    (tmp_path / "b").chmod(0)
    with pytest.raises(UserError, match="cannot read folder .*/b: Permission denied"):
        opened(tmp_path)
    (tmp_path / "b").chmod(0o700)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "val"), {"train": 4, "validation": 4}),
        (("TRAINING", "Dev", "Testing"), {"train": 4, "validation": 4, "test": 4}),
        (("trn", "eval"), {"train": 4, "validation": 4}),
        (("test",), {"test": 4}),
        (("valid",), {"validation": 4}),
        (("train",), {"train": 2, "validation": 2}),
    ],
)
def test_folders_of_splits_are_known_by_name(tmp_path, names, expected):
    files(tmp_path, *(f"{n}/{k}/{i}.jpg" for n in names for k in "ab" for i in range(2)))
    source = opened(tmp_path)
    assert sizes(source) == expected
    assert source.labels == ("a", "b")


@pytest.mark.parametrize(
    "beside", ["extra", "Validate", "unlabeled", "cat", "test_images", "train2"]
)
def test_an_unknown_folder_beside_a_split_is_asked(tmp_path, beside):
    files(
        tmp_path, *(f"{n}/{k}/{i}.jpg" for n in ("train", beside) for k in "ab" for i in range(2))
    )
    with pytest.raises(UserError) as error:
        opened(tmp_path)
    assert f"has the folders 'train' beside '{beside}': say which are splits" in str(error.value)
    source = opened(tmp_path, split_names="train=train")
    assert len(source.split("all")) == 4
    assert set(source.unread.values()) == {"in folders that --split-names excludes"}
    assert len(opened(tmp_path, split_names=f"train=train,train={beside}").split("all")) == 8


def test_images_in_a_folder_named_like_a_split_are_no_class_unless_asked(tmp_path):
    files(tmp_path, *(f"{k}/{i}.jpg" for k in ("cat", "dog", "test") for i in range(2)))
    with pytest.raises(UserError, match="'test' beside 'cat', 'dog'"):
        opened(tmp_path)
    assert opened(tmp_path, split_names="none").labels == ("cat", "dog", "test")


def test_a_split_without_class_folders_is_none(tmp_path):
    files(tmp_path, *(f"train/{k}/{i}.jpg" for k in "ab" for i in range(20)), "test/1.jpg")
    source = opened(tmp_path)
    assert sizes(source) == {"train": 36, "validation": 4}
    assert source.unread == {f"{tmp_path}/test/1.jpg": "images outside class folders"}
    assert "test/ has no image in a class folder, and is no split" in source.warnings


def test_a_class_that_training_lacks_is_refused_and_the_reverse_is_said(tmp_path):
    files(tmp_path, *(f"{n}/{k}/{i}.jpg" for n in ("Train", "val") for k in "ab" for i in range(2)))
    files(tmp_path, "Train/c/1.jpg", "Train/c/2.jpg")
    assert opened(tmp_path).warnings == ("classes without an image in validation: 'c'",)
    files(tmp_path, "val/d/1.jpg")
    with pytest.raises(UserError, match="/val has class folders that Train/ lacks: d"):
        opened(tmp_path)
    (tmp_path / "val" / "d" / "1.jpg").unlink()  # an empty folder is no class
    assert (
        "class folders without an image that is read: 'validation/d'" in opened(tmp_path).warnings
    )


def test_two_unicode_forms_of_a_name_are_told_apart(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    files(tmp_path, *(f"train/{k}/{i}.jpg" for k in ("a", composed) for i in range(2)))
    files(tmp_path, f"val/{decomposed}/1.jpg")
    with pytest.raises(UserError) as error:
        opened(tmp_path)
    assert r"NFD, cafe\u0301 here and NFC, caf\xe9 there: rename one" in str(error.value)
    files(tmp_path, f"train/{decomposed}/1.jpg")
    with pytest.raises(UserError, match="both named .* in the Unicode forms NFD and NFC"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("new\nline", r"new\\nline"), ("tab\t", r"tab\\t"), ("caf\udce9", r"caf\\xe9")],
)
def test_a_class_name_that_is_no_line_of_text_is_refused_at_once(tmp_path, name, shown):
    files(tmp_path, f"{name}/1.jpg", "dog/1.jpg")
    with pytest.raises(UserError, match=rf"named '{shown}', with the character U\+"):
        opened(tmp_path)


def test_file_names_may_be_of_any_bytes(tmp_path):
    files(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", "a/caf\udce9.jpg", "a/new\nline.jpg")
    split = opened(tmp_path).split("all")
    shown = sorted(split.describe(index) for index in range(len(split)))
    assert f"{tmp_path}/a/caf\\xe9.jpg" in shown
    assert f"{tmp_path}/a/new\\nline.jpg" in shown


def test_a_list_of_labels_gives_the_order_and_classes_without_images(tmp_path):
    files(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    (tmp_path / "names.txt").write_text("c\nb\na\n")
    source = opened(tmp_path, labels=str(tmp_path / "names.txt"))
    assert source.labels == ("c", "b", "a")
    assert sorted(source.split("all").classes.tolist()) == [1, 1, 2, 2]
    assert "classes without an image: 'c'" in source.warnings
    (tmp_path / "names.txt").write_text("c\nb\n")
    with pytest.raises(UserError, match="has class folders that the list of --labels lacks: a"):
        opened(tmp_path, labels=str(tmp_path / "names.txt"))


def test_class_folders_of_other_formats_alone_are_refused_with_the_line_that_converts(tmp_path):
    files(tmp_path, "a/1.heic", "b/1.heic")
    source = inspected(tmp_path)
    assert "has no images; class folders must have files that end in .jpg" in source.problem
    assert "magick mogrify -format jpg -auto-orient *.heic" in " ".join(source.warnings)


def test_listing_takes_seconds_for_100_000_files(tmp_path):
    # A tenth of them, in a tenth of the time: making them takes longer than listing them.
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5_000):
            os.close(os.open(tmp_path / name / f"{number}.jpg", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    assert len(inspected(tmp_path).unread) == 10_000  # empty files
    # 0.4 s alone, 1.2 s beside another worker; a listing that compares files with each other would take a minute.
    assert time.process_time() - start < 3


def test_images_keep_their_sizes(tmp_path):
    image(tmp_path / "a" / "1.png")
    files(tmp_path, "a/2.jpg", "b/1.jpg", "b/2.jpg")
    split = opened(tmp_path).split("all")
    assert split.sizes.tolist() == [os.path.getsize(path) for path in split.images]
