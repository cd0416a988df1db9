# SPDX-License-Identifier: Apache-2.0
"""Lists of class names as people's programs write them, and which row belongs to which label."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest

from inception_tf.data.labels import (
    has_background_row,
    names_by_class,
    read_class_names,
    read_labels,
    write_labels,
)
from inception_tf.errors import UserError

ANIMALS = ("cat", "dog", "emu")


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\nemu\n",
        "cat\ndog\nemu",
        "\ufeffcat\r\ndog\r\nemu\r\n\r\n",
        "cat\rdog\remu\r",
        "cat \n dog\nemu\t\n\n\n",
        "0:cat\n1:dog\n2:emu\n",  # slim's
        "\ufeff0: cat\r\n1: dog\r\n2: emu\r\n",
    ],
)
def test_a_list_is_read_as_every_system_and_slim_write_it(tmp_path, content):
    file = tmp_path / "labels.txt"
    file.write_bytes(content.encode())
    assert read_class_names(file) == ANIMALS


@pytest.mark.parametrize(
    "values",
    [
        ["cat", "dog", "emu"],
        ["0:cat", "1:dog", "2:emu"],
        {"0": "cat", "1": "dog", "2": "emu"},
        {"0": ["n01", "cat"], "2": ["n03", "emu"], "1": ["n02", "dog"]},  # Keras' class index
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_in_json_is_read_alike(tmp_path, values, mark):
    file = tmp_path / "labels.json"
    file.write_text(mark + json.dumps(values), encoding="utf-8")
    assert read_class_names(file) == ANIMALS


def test_a_number_that_not_every_line_has_is_part_of_a_name(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("0:cat\ndog\n2:emu\n")
    assert read_class_names(file) == ("0:cat", "dog", "2:emu")


SPLIT_BY_PYTHON = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("odd", [*SPLIT_BY_PYTHON, "\0", "\t", "\x1b", "\x7f", "\ufeff"])
def test_a_name_with_a_control_character_is_refused_with_its_code(tmp_path, odd):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(["cat", f"d{odd}g"]))
    with pytest.raises(UserError, match=rf"class 1 of .*labels.json.*U\+{ord(odd):04X}.*rename"):
        read_class_names(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"cat\n\nemu\n", "class 1 of .* has an empty name"),
        (b"cat\ndog\ncat\n", "classes 0 and 2 of .* are both named 'cat'; give them"),
        (b"caf\xe9\n", "byte 3 is not UTF-8; save it as UTF-8"),
        (b"\n\n", "names no class"),
        (b"", "names no class"),
    ],
)
def test_a_list_that_cannot_name_classes_is_refused(tmp_path, content, sentence):
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_class_names(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1}', "with the keys 0 to 0"),
        ('"cat"', "must be a list"),
        ('["cat", 3]', "must be a list"),
        ("cat", "is no JSON"),
        ('["cat", "\\ud800"]', r"'\\ud800', with the character U\+D800"),
    ],
)
def test_json_of_another_form_is_a_sentence(tmp_path, content, sentence):
    file = tmp_path / "labels.json"
    file.write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_class_names(file)


def test_two_unicode_forms_of_one_name_are_told_apart(tmp_path):
    file = tmp_path / "labels.txt"
    both = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    file.write_text("\n".join(both), encoding="utf-8")
    with pytest.raises(UserError, match="in the Unicode forms NFC and NFD"):
        read_class_names(file)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        read_class_names(tmp_path / "pipe")
    with pytest.raises(UserError, match="No such file"):
        read_class_names(tmp_path / "none")


def test_names_of_a_run_come_back_as_they_were_written(tmp_path):
    # Blank names of old runs too: the network has an output for each.
    names = ("0:cat", "1:dog", " x ", "", "a\vb")
    write_labels(tmp_path / "labels.txt", names)
    assert read_labels(tmp_path / "labels.txt") == names
    assert (tmp_path / "labels.txt").read_bytes().count(b"\n") == len(names)


def by_class(*names, lowest=0, highest=None, offset=None, texts=None):
    highest = len(names) - 1 if highest is None else highest
    return names_by_class(
        names, where="list", lowest=lowest, highest=highest, label_offset=offset, texts=texts
    )


IMAGENET = tuple(f"n{number}" for number in range(1, 1001))


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        # More names than classes were seen: none is dropped.
        ((*ANIMALS, "fox"), {"lowest": 1, "highest": 3, "offset": 1}, (*ANIMALS, "fox")),
        ((*ANIMALS, "fox"), {"lowest": 0, "highest": 2}, (*ANIMALS, "fox")),
        (ANIMALS, {"lowest": 1, "highest": 3, "offset": 1}, ANIMALS),
        # ImageNet beside a few images, with and without a background row.
        (IMAGENET, {"lowest": 3, "highest": 650, "offset": 1}, IMAGENET),
        (("background", *IMAGENET), {"lowest": 3, "highest": 650, "offset": 1}, IMAGENET),
        (("background", *IMAGENET), {"lowest": 3, "highest": 650}, IMAGENET),
        (("dummy", *IMAGENET), {"lowest": 1, "highest": 1000}, IMAGENET),
        (("__background__", *IMAGENET), {"lowest": 1, "highest": 1000}, IMAGENET),
        # A class that is called so, and has images.
        (("background", *ANIMALS), {}, ("background", *ANIMALS)),
        (("background", *ANIMALS), {"highest": 2, "offset": 0}, ("background", *ANIMALS)),
        # The data names its labels.
        (("nothing", *ANIMALS), {"lowest": 1, "offset": 1, "texts": {2: "dog"}}, ANIMALS),
        ((*ANIMALS, "fox"), {"lowest": 2, "highest": 2, "texts": {2: "dog"}}, (*ANIMALS, "fox")),
        ((*ANIMALS, "fox"), {"lowest": 2, "highest": 2, "texts": {2: "emu"}}, (*ANIMALS, "fox")),
    ],
)
def test_a_row_is_dropped_only_where_it_is_known_to_be_none_of_the_classes(
    names, options, expected
):
    assert by_class(*names, **options)[0] == expected


def test_the_offset_is_found_where_nothing_else_is_possible():
    assert by_class("background", *ANIMALS, lowest=1)[1] == 1
    assert by_class(*ANIMALS)[1] == 0
    assert by_class(*ANIMALS, "fox", lowest=2, highest=2, texts={2: "dog"})[1] == 1
    assert by_class(*ANIMALS, "fox", lowest=2, highest=2, texts={2: "emu"})[1] == 0


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        ((*ANIMALS, "fox"), {"lowest": 1, "highest": 3}, "the lowest label is 1: say with --label-offset 0"),
        (IMAGENET, {"lowest": 5, "highest": 650}, "with --label-offset 1 that label 1 is the first class"),
        (("background", *ANIMALS), {"highest": 2}, "the first is a background, but images have label 0"),
        (ANIMALS, {"lowest": 1, "highest": 3}, "--labels FILE, or --label-offset 1 if the labels count"),
        (ANIMALS, {"highest": 3}, "has 3 names and the data has label 3, which is class 3"),
        (("background", *ANIMALS), {"lowest": 1, "highest": 4}, "4 names, less the first 1, and"),
    ],
)  # fmt: skip
def test_what_the_labels_leave_open_is_asked(names, options, sentence):
    with pytest.raises(UserError) as error:
        by_class(*names, **options)
    assert sentence in str(error.value)


@pytest.mark.parametrize("name", ["background", "Background", "__background__", "dummy"])
def test_a_background_row_says_so(name):
    assert has_background_row((name, *ANIMALS))
    assert not has_background_row(ANIMALS)
    assert not has_background_row((*ANIMALS, name))


def test_numbers_are_the_rows_whatever_the_order_of_the_lines(tmp_path):
    file = tmp_path / "labels.txt"
    names = [f"name {number}" for number in range(12)]
    lines = sorted(f"{number}:{name}" for number, name in enumerate(names))  # 0, 1, 10, 11, 2
    file.write_text("\n".join(lines))
    assert read_class_names(file) == tuple(names)
    file.write_text("0:cat\n10:30 train\ndog\n")
    assert read_class_names(file) == ("0:cat", "10:30 train", "dog")


@pytest.mark.parametrize(
    ("lines", "missing"),
    [("1:cat\n2:dog\n", 0), ("0:cat\n10:dog\n", 1), ("0:cat\n0:dog\n", 1), ("0:cat\n2:dog\n", 1)],
)
def test_numbers_with_gaps_are_refused(tmp_path, lines, missing):
    (tmp_path / "labels.txt").write_text(lines)
    with pytest.raises(
        UserError, match=f"numbers its 2 names, and none has the number {missing}; num"
    ):
        read_class_names(tmp_path / "labels.txt")


def test_a_repeated_key_in_json_is_refused(tmp_path):
    (tmp_path / "labels.json").write_text('{"0": "cat", "1": "dog", "0": "emu"}')
    with pytest.raises(UserError, match="the key '0' is repeated"):
        read_class_names(tmp_path / "labels.json")


def test_keras_list_of_imagenet_is_read_and_its_two_cranes_are_told_apart(test_data):
    names = read_class_names(test_data / "imagenet_class_index.json")
    assert len(set(names)) == 1000
    assert (names[134], names[517]) == ("crane (n02012849)", "crane (n03126707)")
    assert names[472] == "canoe"
