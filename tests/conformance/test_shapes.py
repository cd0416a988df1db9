# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs: without the top, pooled, any size from the minimum, any number of channels."""

from __future__ import annotations

import numpy as np
import pytest
import ramps

import inception_tf
from inception_tf.arch import counting


@pytest.mark.kinds
def test_without_top_the_last_grid_comes_out(network, small, images):
    model = small(include_top=False)
    assert model(images).shape[1:] == model.get_layer(network.backbone[-1][0]).output.shape[1:]


@pytest.mark.kinds
def test_pooling_takes_the_mean_of_the_last_grid(small, images):
    grid = small(include_top=False)(images)
    pooled = small(include_top=False, pooling="avg")(images)
    np.testing.assert_allclose(pooled, np.mean(grid, axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.kinds
def test_model_without_a_size_gives_what_one_with_a_size_gives(small, images, outputs):
    fixed = small(aux_logits=False)
    free = small(aux_logits=False, input_shape=(None, None, 3))
    np.testing.assert_allclose(
        outputs(free, images)["predictions"],
        outputs(fixed, images)["predictions"],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.kinds
def test_model_without_a_size_takes_another_size(network, small, outputs):
    free = small(aux_logits=False, input_shape=(None, None, 3))
    larger = ramps.images(1, network.min_size + 37, network.min_size + 12, 3)
    assert outputs(free, larger)["predictions"].shape == (1, 5)


@pytest.mark.kinds
def test_six_channels_go_in(network, small, outputs):
    side = network.min_size
    model = small(input_shape=(side, side, 6))
    for found in outputs(model, ramps.images(1, side, side, 6)).values():
        assert found.shape == (1, 5)


def test_least_size_leaves_a_grid(network):
    least = network.min_size
    height, width, _ = counting.layer_costs(network, (least, least), classes=None)[-1].output
    assert min(height, width) >= 1


def test_one_pixel_less_than_the_least_is_refused(network):
    least, side = network.min_size, network.min_size - 1
    message = f"{network.name} needs images of at least {least}x{least} pixels, got {side}x{least}"
    with pytest.raises(inception_tf.UserError, match=f"^{message}$"):
        inception_tf.create_model(network.name, input_shape=(side, least, 3))
    with pytest.raises(inception_tf.UserError, match=f"^{message}$"):
        counting.layer_costs(network, (side, least))
