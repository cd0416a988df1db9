# SPDX-License-Identifier: Apache-2.0
"""The public names."""

from __future__ import annotations

import inception_tf


def test_all_is_sorted_and_every_name_is_there():
    assert inception_tf.__all__ == sorted(inception_tf.__all__)
    for name in inception_tf.__all__:
        assert getattr(inception_tf, name).__doc__, name


def test_every_network_has_a_builder():
    from inception_tf import applications

    assert list(applications.BUILDERS) == inception_tf.list_models()
    for builder in applications.BUILDERS.values():
        assert builder.__name__ in inception_tf.__all__


def test_preprocessing_takes_pixels_to_minus_one_and_one_and_leaves_its_input_alone():
    import numpy as np

    pixels = np.array([0.0, 127.5, 255.0], np.float32)
    result = inception_tf.preprocess_input(pixels, model="inception_v1")
    np.testing.assert_array_equal(result, [-1, 0, 1])
    np.testing.assert_array_equal(pixels, [0, 127.5, 255])
    assert result.dtype == "float32"
