# SPDX-License-Identifier: Apache-2.0
"""Images named by file, folder and pattern."""

from __future__ import annotations

import pytest

from inception_tf.data.sources.images import find_images
from inception_tf.errors import UserError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "a/2.jpg",
        "a/1.PNG",
        "a/b/3.webp",
        "a/notes.txt",
        "a/._2.jpg",
        "[x].jpg",
        "empty/x.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a/2.jpg", "nowhere.jpg", "a/notes.txt"], ["a/2.jpg", "nowhere.jpg", "a/notes.txt"]),
        (["a"], ["a/1.PNG", "a/2.jpg", "a/b/3.webp"]),
        (["a/**/*.webp", "a/2.jpg"], ["a/b/3.webp", "a/2.jpg"]),
        (["a/?.*"], ["a/1.PNG", "a/2.jpg"]),
        (["[x].jpg"], ["[x].jpg"]),  # a file of that very name
    ],
)
def test_files_folders_and_patterns_are_listed(photos, names, found):
    assert find_images(names) == found


@pytest.mark.parametrize(
    ("name", "sentence"), [("empty", "empty has no images"), ("a/*.bmp", "no file matches a/")]
)
def test_nothing_found_is_one_sentence(photos, name, sentence):
    with pytest.raises(UserError, match=sentence):
        find_images([name])
