# SPDX-License-Identifier: Apache-2.0
"""The heads that are compared: their layers, and outputs with and without the auxiliary classifier."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inception_tf.experiments.studies.head import DROPOUT, make_network


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("head", ["average", "connected"])
def test_a_network_has_the_head_that_was_asked_for(head, auxiliary):
    model = make_network(10, head=head, dropout=DROPOUT, auxiliary=auxiliary, seed=0)
    kinds = [type(layer) for layer in model.layers]
    pools = head == "average"
    assert (keras.layers.GlobalAveragePooling2D in kinds) == pools
    # A classifier, a fully connected layer of the head, and both of the auxiliary classifier.
    assert kinds.count(keras.layers.Dense) == 1 + (not pools) + 2 * auxiliary
    rates = [x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert rates == [DROPOUT]
    outputs = model(np.zeros((2, 24, 24, 3), np.float32))
    shapes = [tuple(one.shape) for one in (outputs if auxiliary else [outputs])]
    assert shapes == [(2, 10)] * (1 + auxiliary)


def test_the_seed_decides_the_weights():
    one, same, other = (
        make_network(10, head="average", dropout=0.0, auxiliary=False, seed=seed)
        for seed in (1, 1, 2)
    )
    for ours, theirs in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (one.get_weights()[0] != other.get_weights()[0]).any()
