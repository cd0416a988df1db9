# SPDX-License-Identifier: Apache-2.0
"""Pictures of many images: which are shown, in which colors, under which names, and which are marked."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inception_tf.data import mosaic
from inception_tf.data.mosaic import Tile, answer_tile, draw_mosaic, read_pixels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.sources.splits import Split
from inception_tf.training import pictures

COLORS = np.array([[250, 10, 30], [20, 200, 40], [60, 90, 240], [128, 128, 128]], np.uint8)
LABELS = ("red $x^", "green", "blue", "gray")  # a dollar sign is no formula


def colors_in(path):
    """The colors that fill more than a tile's worth of a picture, but for its background."""
    with Image.open(path) as picture:
        found, counts = np.unique(
            np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0, return_counts=True
        )
    return {
        tuple(color) for color, count in zip(found.tolist(), counts, strict=True) if count > 5000
    } - {(255, 255, 255)}


def test_training_images_have_their_own_colors_again(tmp_path):
    images = np.broadcast_to(COLORS[:, None, None] / np.float32(127.5) - 1, (4, 16, 16, 3))
    batches = [(images[:3], np.eye(4)[:3]), (images[3:], np.eye(4)[3:])]
    pictures.draw_training_batches(batches, LABELS, tmp_path / "a.png", "training")
    found = np.array(sorted(colors_in(tmp_path / "a.png")))
    np.testing.assert_allclose(found, sorted(COLORS.tolist()), atol=1)


def test_no_batch_is_read_beyond_those_that_are_drawn(tmp_path):
    def batches():
        for _ in range(3):
            yield np.zeros((12, 8, 8, 3)), np.tile(np.eye(4)[0], (12, 1))
            read.append(1)

    read = []
    (first, _), again = pictures.first_and_rest(batches())
    assert len(first) == 12
    pictures.draw_training_batches(again, LABELS, tmp_path / "a.png", "training")
    assert len(read) == 1  # the second batch was the last one


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ([0, 1, 0, 0], "green"),
        ([0, 1, 1, 0], "green, blue"),
        ([0, 0, 0, 0], "none"),
        ([0.3, 0.7, 0, 0], "70% green, 30% red $x^"),
        ([0.001, 0.999, 0, 0], "green"),
    ],
)  # fmt: skip
def test_a_mixed_image_has_the_names_of_its_parts(target, expected):
    assert pictures._shown(np.array(target), LABELS) == expected


def test_a_wrong_answer_is_marked_not_by_color_alone(tmp_path):
    pixels = np.zeros((8, 8, 3))
    right = answer_tile(pixels, ("green",), (("green", 0.8),))
    assert (right.lines, right.is_marked) == (("true green", "answer green 80%"), False)
    wrong = answer_tile(pixels, ("green", "blue"), (("green", 0.8),), "a.png")
    assert wrong.lines == ("true green, blue", "answer green 80%", "a.png")
    assert wrong.is_marked
    shown = []
    for number, tile in enumerate((replace(wrong, is_marked=False), wrong)):
        draw_mosaic([tile], tmp_path / f"{number}.png", "t", "training")
        with Image.open(tmp_path / f"{number}.png") as picture:
            shown.append(np.asarray(picture.convert("L")).astype(int))
    assert np.abs(shown[0] - shown[1]).max() > 50  # seen in gray, too


@pytest.mark.parametrize("scale", ["unit", "zero_to_one", "caffe"])
def test_pixels_are_read_back_whatever_the_networks_scale(scale):
    pixels = np.broadcast_to(COLORS[:, None, None], (4, 20, 20, 3)).copy()
    split = Split(pixels, np.arange(4))
    prepared = Preprocessing(16, scale=scale)
    found = read_pixels(split, np.array([3, 0]), prepared)
    assert list(found) == [3, 0]
    for index, image in found.items():
        assert image.shape == (16, 16, 3)
        np.testing.assert_allclose(image[8, 8] * 255, COLORS[index], atol=0.6)


def test_answers_are_those_of_the_network_on_images_of_every_class(tmp_path, monkeypatch):
    pixels = np.repeat(np.broadcast_to(COLORS[:, None, None], (4, 20, 20, 3)), 10, axis=0)
    split = Split(pixels, np.repeat(np.arange(4), 10))
    plan = SimpleNamespace(
        validation=split, source=SimpleNamespace(labels=LABELS), preprocessing=Preprocessing(16)
    )

    def network(images, training):
        distance = np.abs((np.asarray(images)[:, 8, 8, None] + 1) * 127.5 - COLORS).sum(-1)
        return (distance < 3) * np.array([0.9, 0.9, 0.9, 0.2]) + np.array([0.0, 0.0, 0.0, 0.3])

    drawn = []
    monkeypatch.setattr(pictures, "draw_mosaic", lambda tiles, *_: drawn.extend(tiles))
    pictures.draw_answers(network, plan, tmp_path / "a.png", "answers")
    assert len(drawn) == 12
    assert {tile.lines for tile in drawn} == {
        *((f"true {name}", f"answer {name} 90%") for name in LABELS[:3]),
        ("true gray", "answer gray 50%"),
    }
    assert not any(tile.is_marked for tile in drawn)


def test_a_picture_without_images_has_its_title(tmp_path):
    draw_mosaic([], tmp_path / "a.png", "no mistakes", "training")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_long_answers_are_wrapped_and_only_the_longest_are_cut_off(tmp_path):
    names = [f"class {number}" for number in range(9)]
    tile = answer_tile(np.zeros((4, 4, 3)), names, [(name, 0.5) for name in names])
    lines = mosaic._wrapped(tile)
    assert max(map(len, lines)) <= 30
    assert " ".join(lines) == " ".join(tile.lines)  # nothing is lost
    (*kept, last) = mosaic._wrapped(replace(tile, lines=("true " + ", ".join(names * 9),)))
    assert (len(kept), last[-4:]) == (5, " ...")
    draw_mosaic(
        [tile, Tile(np.zeros((4, 4, 3)), ("x" * 500,))], tmp_path / "a.png", "t", "training"
    )
    with Image.open(tmp_path / "a.png") as picture:
        whole = np.asarray(picture.convert("L"))
    draw_mosaic([replace(tile, lines=())], tmp_path / "b.png", "t", "training")
    with Image.open(tmp_path / "b.png") as picture:
        assert whole.shape[0] - picture.height == round(100 * 0.17 * max(len(lines), 6))


def test_the_frame_of_a_wrong_answer_has_no_gaps(tmp_path):
    tile = Tile(np.ones((4, 4, 3)), (), is_marked=True)
    draw_mosaic([tile], tmp_path / "a.png", "", "training")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100)
    rows, columns = (np.flatnonzero(red.any(axis)) for axis in (1, 0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    frame = red[inside]
    assert min(frame.shape) > 190  # a tile of 2 inches
    for edge in (frame[2], frame[-3], frame[:, 2], frame[:, -3]):
        assert edge[1:-1].all()
