# SPDX-License-Identifier: Apache-2.0
"""The resizes and scales of FID's tools, against what the tools themselves made of the same images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from inception_tf.generative.conventions import CONVENTIONS
from inception_tf.generative.resizing import SIZE, ResizeLikeTool

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "fid"))

from resized_images import COLUMNS, ROWS, SIZES, image  # noqa: E402

TOLERANCE = 1e-6  # of a range of 2; TensorFlow 1's is equal to the bit


@pytest.fixture(scope="module")
def recorded():
    return np.load(HERE / "fid/resizes.npz")


@pytest.mark.parametrize("tool", CONVENTIONS)
def test_pixels_are_those_of_the_tool(recorded, tool):
    step = tf.function(
        ResizeLikeTool(CONVENTIONS[tool].resize),
        autograph=False,
        input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
    )
    for height, width in SIZES:
        found = step(image(height, width)).numpy()
        assert found.shape == (SIZE, SIZE, 3)
        expected = recorded[f"{tool} {height}x{width}"]
        atol = 0 if tool == "torch-fidelity" else TOLERANCE
        np.testing.assert_allclose(
            found[ROWS][:, ::COLUMNS], expected, rtol=0, atol=atol, err_msg=f"{height}x{width}"
        )


@pytest.mark.parametrize("tool", CONVENTIONS)
def test_a_batch_is_resized_image_by_image(tool):
    step = ResizeLikeTool(CONVENTIONS[tool].resize)
    images = np.stack([image(32, 48), image(32, 48)[::-1]])
    found = step(images).numpy()
    for one, pixels in zip(found, images, strict=True):
        np.testing.assert_allclose(one, step(pixels).numpy(), rtol=0, atol=TOLERANCE)
