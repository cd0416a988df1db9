# SPDX-License-Identifier: Apache-2.0
"""The picture of what a network is fed, and the command that draws it."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow as tf

from inception_tf import cli
from inception_tf.config import DataConfig
from inception_tf.data.preview import ROWS, VERSIONS, draw_preview, make_preview
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError

PLAIN = DataConfig(crop=None, box_area=None, flip=False)
LABELS = tuple("abcd")
SIZE = 8


@pytest.fixture(scope="module")
def split():
    """Twelve images of one gray each, 20 levels apart, three a class."""
    levels = np.arange(12, dtype=np.uint8) * 20
    pixels = np.repeat(levels, SIZE * SIZE * 3).reshape(12, SIZE, SIZE, 3)
    return Split(pixels, np.arange(12, dtype=np.int64) % 4)


@pytest.fixture(scope="module")
def shown(split):
    return make_preview(split, LABELS, PLAIN, size=SIZE, seed=0)


@pytest.fixture
def call(capfd):
    def run(*words):
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


def test_a_row_is_versions_of_one_image_beside_its_evaluation_view(shown):
    assert shown.training.shape == (ROWS, VERSIONS, SIZE, SIZE, 3)
    for version in range(VERSIONS):
        np.testing.assert_allclose(shown.training[:, version], shown.evaluation, atol=1e-6)
    assert len(np.unique(shown.evaluation[:, 0, 0, 0])) == ROWS


def test_every_class_comes_once_before_any_comes_twice(shown):
    assert sorted(shown.labels[:4]) == list(LABELS)


def test_a_label_belongs_to_its_image(shown, split):
    levels = np.round((shown.evaluation[:, 0, 0, 0] + 1) * 127.5).astype(int)
    assert [LABELS[(level // 20) % 4] for level in levels] == list(shown.labels)


def test_distorted_versions_differ_and_the_evaluation_view_does_not_change(split, shown):
    config = dataclasses.replace(PLAIN, photometric="full")
    distorted = make_preview(split, LABELS, config, size=SIZE, seed=0)
    assert (distorted.evaluation == shown.evaluation).all()
    versions = distorted.training[:, :, 0, 0, 0]
    assert all(len(np.unique(row)) > 1 for row in versions)


def test_a_mixed_image_is_told_apart_by_its_shares(split, shown):
    config = dataclasses.replace(PLAIN, mixup_alpha=1.0)
    mixed = make_preview(split, LABELS, config, size=SIZE, seed=0)
    # Gray levels mix as the labels do, so that each share can be checked on its pixels.
    expected = mixed.label_weights @ shown.evaluation[:, 0, 0, 0]
    np.testing.assert_allclose(mixed.training[..., 0, 0, 0], expected, atol=1e-5)
    assert (mixed.label_weights.max(axis=-1) < 1).any()


def test_fewer_images_than_rows_are_shown_all(split):
    few = make_preview(split.take([3, 5]), LABELS, PLAIN, size=SIZE, seed=0)
    assert sorted(few.labels) == ["b", "d"]


def test_what_cannot_be_read_is_passed_over(class_folders):
    from inception_tf.data.sources.open import open_source

    folder = class_folders(red=4, blue=4)
    for name in ("red/0.jpg", "blue/1.jpg"):
        (folder / name).write_bytes(b"no image")
    source = open_source(f"folder:{folder}")
    whole = source.split("all")
    assert len(make_preview(whole, source.labels, PLAIN, size=SIZE, seed=0).labels) == 6


def test_without_a_readable_image_the_files_are_named(class_folders):
    from inception_tf.data.sources.open import open_source

    folder = class_folders(red=2, blue=2)
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"no image")
    source = open_source(f"folder:{folder}")
    with pytest.raises(UserError, match=r"4 of 4 images cannot be read.*not a JPEG, PNG"):
        make_preview(source.split("all"), source.labels, PLAIN, size=SIZE, seed=0)


def test_the_picture_is_a_png_that_grows_with_its_rows(shown, tmp_path):
    def drawn(rows):
        part = dataclasses.replace(
            shown,
            training=shown.training[:rows],
            label_weights=shown.label_weights[:rows],
            evaluation=shown.evaluation[:rows],
            labels=shown.labels[:rows],
        )
        draw_preview(part, tmp_path / "a.png", "title")
        return tf.io.decode_png((tmp_path / "a.png").read_bytes()).shape

    (low, narrow, _), (high, wide, _) = drawn(1), drawn(3)
    assert high > 2 * low
    assert wide == narrow
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_without_matplotlib_the_extra_to_install_is_named(shown, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="a preview needs matplotlib: pip install"):
        draw_preview(shown, tmp_path / "a.png", "title")


def test_the_command_describes_a_source(call):
    code, out, _ = call("data", "digits")
    assert code == 0
    assert "digits: 1,797 images of 10 classes" in out
    assert "train   1,437" in out
    assert "labels: 0, 1, 2" in out


def test_the_command_draws_a_preview(call, tmp_path):
    path = tmp_path / "digits.png"
    code, out, err = call("data", "digits", "--recipe", "digits", "--size", 16, "--preview", path)
    assert (code, err) == (0, "")
    assert str(path) in out
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data", "digit"), "did you mean 'digits'?"),
        (("data", "digits", "--preview", "x.png", "--split", "tset"), "did you mean 'test'?"),
        (("data", "digits", "--preview", "x.png", "--size", "0"), "0 is not in the range"),
        (("data", "digits", "--set", "data.photometric=ful"), "did you mean 'full'?"),
    ],
)
def test_a_mistake_is_one_sentence(call, words, sentence):
    code, _, err = call(*words)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1
