# SPDX-License-Identifier: Apache-2.0
"""The documents' blocks: the weights that their listings and figures give, and their use in a user's network."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import inception_tf


def _model(block, *arguments, channels=192, side=28, **named):
    image = keras.Input((side, side, channels))
    return keras.Model(image, block(image, *arguments, **named))


def test_the_listing_has_its_branches_biases_and_one_batch_normalization():
    model = _model(inception_tf.inception_module)
    # 1x1 64; 1x1 96, 3x3 128; 1x1 16, 5x5 32; pool, 1x1 32 on 192 channels: Table 1's 159 x 1,024 kernels.
    kernels = 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    biases, normalization = 64 + 96 + 128 + 16 + 32 + 32, 4 * 256
    assert model.count_params() == kernels + biases + normalization
    assert model.output.shape == (None, 14, 14, 256)
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers) == 1


def test_the_listing_adds_slims_l2_to_the_loss():
    model = _model(inception_tf.inception_module, channels=3, side=8)
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    expected = 5e-3 * sum(np.sum(np.square(k.numpy())) for k in kernels) / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_two_3x3_reach_as_far_as_a_5x5_with_fewer_weights():
    model = _model(inception_tf.factorized_5x5, 1, channels=1, side=11, batch_norm=False)
    assert model.count_params() == 2 * (9 + 1)
    assert _reach(model) == (5, 5)


@pytest.mark.parametrize("n", [2, 3, 7, 8])
def test_any_n_factorizes(n):
    model = _model(inception_tf.factorized_nxn, 1, n, channels=1, side=21, batch_norm=False)
    assert model.count_params() == 2 * (n + 1)
    assert _reach(model) == (n, n)


def test_an_n_below_two_is_refused():
    with pytest.raises(inception_tf.UserError, match="n must be an integer of at least 2, got 1"):
        _model(inception_tf.factorized_nxn, 4, 1)


def test_1x3_and_3x1_stand_side_by_side():
    model = _model(inception_tf.expanded_3x3, 384, channels=8, side=8)
    assert model.output.shape == (None, 8, 8, 768)
    assert model.count_params() == 2 * (3 * 8 * 384 + 3 * 384)


def test_blocks_stack_under_names_of_their_own():
    image = keras.Input((32, 32, 3))
    x = inception_tf.inception_module(image, name="first")
    x = inception_tf.factorized_nxn(x, 16, 7, name="second")
    x = inception_tf.expanded_3x3(x, 16, name="third")
    model = keras.Model(image, x)
    assert {"first", "second", "third"} <= {layer.name for layer in model.layers}
    assert model(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 16, 16, 32)


def test_every_block_can_be_used_twice_without_a_name():
    x = image = keras.Input((16, 16, 4))
    for block, arguments in (
        (inception_tf.inception_module, ()),
        (inception_tf.factorized_5x5, (4,)),
        (inception_tf.factorized_nxn, (4, 3)),
        (inception_tf.expanded_3x3, (4,)),
    ):
        keras.backend.clear_session(free_memory=False)
        x = block(block(x, *arguments), *arguments)
        names = [layer.name for layer in keras.Model(image, x).layers]
        assert {block.__name__, f"{block.__name__}_1"} <= set(names)
        keras.backend.clear_session(free_memory=False)
        assert _model(block, *arguments, side=8).layers[-1].name == block.__name__


def _reach(model):
    """Height and width of what one pixel in the middle can change."""
    for variable in model.weights:
        variable.assign(np.ones(variable.shape, np.float32))
    side = model.input.shape[1]
    image = np.zeros((1, side, side, 1), np.float32)
    plain = np.asarray(model(image))
    image[0, side // 2, side // 2] = 1
    changed = np.argwhere(np.asarray(model(image) - plain)[0, ..., 0])
    return tuple(int(span) for span in changed.max(0) - changed.min(0) + 1)
