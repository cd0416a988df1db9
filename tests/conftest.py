# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# As the command line sets it; TensorFlow reads it once, when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data beside the project; without it a test is skipped, in CI it fails."""
    folder = Path(os.environ.get("INCEPTION_TF_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no test data at {folder}; set INCEPTION_TF_TEST_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture
def class_folders(tmp_path):
    """A function that writes class folders of small PNG images: `class_folders(red=6, blue=6) -> Path`."""
    import tensorflow as tf

    def write(**counts):
        root = tmp_path / "images"
        for index, (name, count) in enumerate(counts.items()):
            (root / name).mkdir(parents=True)
            for number in range(count):
                pixels = tf.cast(tf.fill((40, 30, 3), 40 * index + number), tf.uint8)
                tf.io.write_file(str(root / name / f"{number}.png"), tf.io.encode_png(pixels))
        return root

    return write
