# SPDX-License-Identifier: Apache-2.0
"""Dtype policies: the body computes in half precision, weights and outputs are float32."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.kinds

POLICY = "mixed_float16"  # the narrower one; test_models.py has the other


def test_mixed_policy_gives_float32_probabilities(small, images, outputs):
    found = outputs(small(dtype=POLICY), images)
    for key, probabilities in found.items():
        assert probabilities.dtype == np.float32, key
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5, err_msg=key)


def test_body_computes_in_half_precision_on_float32_weights(network, small):
    model = small(dtype=POLICY)
    body = model.get_layer(network.backbone[-1][0])
    assert body.compute_dtype == body.output.dtype == "float16"
    assert {w.dtype for w in model.weights} == {"float32"}


def test_policy_changes_the_result_little(small, images, outputs):
    models = small(), small(dtype=POLICY)
    full, half = (logits(outputs(model, images)["predictions"]) for model in models)
    # float16 keeps 11 bits; a hundred layers lose some of them.
    assert np.abs(full - half).max() < 0.05 * np.abs(full).max()


def logits(probabilities):
    """But for one number a row, which a softmax forgets."""
    found = np.log(probabilities)
    return found - found.mean(axis=1, keepdims=True)
