# SPDX-License-Identifier: Apache-2.0
"""Images of 16 bits that use fewer are warned of, by a sample."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception_tf.data.depth import depth_warning
from inception_tf.data.sources.splits import Split


@pytest.fixture
def split_of(tmp_path):
    def make(*highest, dtype=np.uint16):
        paths = []
        for number, value in enumerate(highest):
            paths.append(str(tmp_path / f"{number}.PNG"))
            Image.fromarray(np.linspace(0, value, 64).astype(dtype).reshape(8, 8)).save(
                paths[-1], "PNG"
            )
        return Split(np.array(paths), np.zeros(len(paths), np.int64))

    return make


def test_images_of_12_bits_are_warned_of_with_the_setting(split_of):
    assert depth_warning(split_of(4000, 4095, 100)) == (
        "images of 16 bits use 12 of them, and are shown 16 times too dark; if that is their range, use"
        " --set data.bits=12"
    )


def test_a_setting_that_cuts_off_is_warned_of(split_of):
    split = dataclasses.replace(split_of(4000, 9000), bits=12)
    assert depth_warning(split) == (
        "images of 16 bits use 14 of them, and what exceeds data.bits=12 becomes white; use --set data.bits=14"
    )


def test_images_that_use_their_bits_are_not(split_of):
    assert depth_warning(split_of(200, 60_000)) is None
    assert depth_warning(split_of(200, 255, dtype=np.uint8)) is None
    assert depth_warning(dataclasses.replace(split_of(4000), bits=12)) is None


def test_images_in_memory_are_looked_at_too_and_damaged_ones_are_not(split_of):
    split = split_of(4000)
    data = Path(split.images[0]).read_bytes()
    encoded = np.array([data, data[:40], b""], object)
    assert "--set data.bits=12" in depth_warning(Split(encoded, np.zeros(3, np.int64)))
    assert depth_warning(Split(encoded[1:], np.zeros(2, np.int64))) is None
