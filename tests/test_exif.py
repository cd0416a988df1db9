# SPDX-License-Identifier: Apache-2.0
"""EXIF orientations as Pillow reads and undoes them, and EXIF that is damaged."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from inception_tf.data.augmentation import distortions
from inception_tf.data.decoding import images
from inception_tf.data.decoding.exif import read_orientation, rotate_upright


def _jpeg(value=None, size=(48, 32), endian="<", before=b""):
    """A JPEG with four different corners; `before`: segments that stand before EXIF."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = (250, 0, 0)
    pixels[: size[1] // 2, size[0] // 2 :] = (0, 250, 0)
    pixels[size[1] // 2 :, : size[0] // 2] = (0, 0, 250)
    file = io.BytesIO()
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker"  # a tag before the one that counts
    if value:
        exif[0x0112] = value
    Image.fromarray(pixels).save(file, "JPEG", quality=95, exif=exif)
    data = file.getvalue()
    return data[:2] + before + data[2:]


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_an_image_comes_out_as_pillow_turns_it(value, endian):
    data = _jpeg(value, endian=endian)
    theirs = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert int(read_orientation(data)) == value
    np.testing.assert_array_equal(images.decode(data), theirs)


def test_a_jpeg_without_the_tag_is_upright():
    assert int(read_orientation(_jpeg())) == 1
    assert int(read_orientation(tf.io.encode_jpeg(np.zeros((9, 7, 3), np.uint8)))) == 1


def test_exif_is_found_behind_other_segments():
    comment = b"\xff\xfe" + (4002).to_bytes(2, "big") + bytes(4000)
    assert int(read_orientation(_jpeg(6, before=comment * 3))) == 6


def test_damaged_exif_counts_as_upright():
    data = _jpeg(6)
    start = data.index(b"Exif\0\0") + 6
    spoilt = [
        data[: start + 4] + b"\xff\xff\xff\xff" + data[start + 8 :],  # a directory nowhere
        data[: start + 8] + b"\xff\xff" + data[start + 10 :],  # 65,535 tags
        data[: start + 2],  # cut off
        data[:4],
        _jpeg(6).replace(b"\x12\x01\x03\x00", b"\x12\x01\x03\x00", 1)[:40],
    ]
    for damaged in spoilt:
        assert int(read_orientation(damaged)) in (1, 6)
    nonsense = data.replace((0x0112).to_bytes(2, "little"), (0x0113).to_bytes(2, "little"), 1)
    assert int(read_orientation(nonsense)) == 1


def test_a_value_outside_1_to_8_counts_as_upright():
    assert int(read_orientation(_jpeg(9))) == 1


def test_the_eight_orientations_are_all_different():
    image = tf.reshape(tf.range(12), (2, 2, 3))
    assert len({rotate_upright(image, tf.constant(o)).numpy().tobytes() for o in range(1, 9)}) == 8


@pytest.mark.parametrize("value", [1, 3, 6, 8])
def test_a_training_box_is_cut_from_the_image_as_it_is_seen(value):
    """A box as wide as three times its height stays one however the image was stored."""
    box = distortions.RandomResizedCrop((0.1, 0.2), (2.9, 3.1))
    data = _jpeg(value, size=(160, 150))
    for seed in range(5):
        height, width, _ = images.read_image(data, box, tf.constant([seed, 0], tf.int64))[1].shape
        assert 2.6 < width / height < 3.4
