# SPDX-License-Identifier: Apache-2.0
"""The changed copies of images that new statistics are tried on."""

from __future__ import annotations

import numpy as np
import pytest

from inception_tf.experiments.studies.domain import DOMAINS, RECOLORING

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_keeps_shape_and_type_and_its_input(name):
    before = IMAGES.copy()
    changed = DOMAINS[name](IMAGES)
    assert (changed.shape, changed.dtype) == (IMAGES.shape, np.uint8)
    np.testing.assert_array_equal(IMAGES, before)
    assert np.array_equal(changed, IMAGES) == (name == "as trained")


def test_the_domains_are_what_they_are_called():
    np.testing.assert_array_equal(DOMAINS["inverted"](DOMAINS["inverted"](IMAGES)), IMAGES)
    assert DOMAINS["blurred"](IMAGES)[1, 4, 4, 0] == round(IMAGES[1, 2:7, 2:7, 0].mean())
    np.testing.assert_allclose(RECOLORING.sum(axis=1), 1)  # gray stays gray
    gray = np.full((1, 2, 2, 3), 77, np.uint8)
    np.testing.assert_array_equal(DOMAINS["recolored"](gray), gray)
    low = DOMAINS["low contrast"](IMAGES)
    assert (low.min(), low.max()) == (160 + IMAGES.min() // 4, 160 + IMAGES.max() // 4)
