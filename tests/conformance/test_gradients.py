# SPDX-License-Identifier: Apache-2.0
"""Training reaches every weight."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf


@pytest.mark.short
def test_every_trainable_weight_has_a_gradient(small, images):
    model = small(name="trained")  # one that no other test has: its statistics move
    # Logarithms in unequal shares: softmax and sums have directions without gradient.
    with tf.GradientTape() as tape:
        found = model(images, training=True)
        found = found if isinstance(found, dict) else {"predictions": found}
        loss = sum(
            tf.reduce_sum(tf.math.log(x) * np.arange(1.0, 6.0, dtype="float32"))
            for x in found.values()
        )
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    dead = [
        w.path
        for w, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is None or not np.isfinite(gradient).all() or not np.any(gradient)
    ]
    assert dead == []
