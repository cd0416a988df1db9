# SPDX-License-Identifier: Apache-2.0
"""Dtype policies: the body computes in half precision, weights and outputs are float32."""

from __future__ import annotations

import numpy as np
import pytest

POLICIES = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@pytest.mark.parametrize("policy", POLICIES)
def test_mixed_policy_gives_float32_probabilities(small, images, outputs, policy):
    found = outputs(small(dtype=policy), images)
    for key, probabilities in found.items():
        assert probabilities.dtype == np.float32, key
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("policy", POLICIES)
def test_body_computes_in_half_precision_on_float32_weights(network, small, policy):
    model = small(dtype=policy)
    body = model.get_layer(network.body[-1][0])
    assert body.compute_dtype == body.output.dtype == POLICIES[policy]
    assert {w.dtype for w in model.weights} == {"float32"}


def test_policy_changes_the_result_little(small, images, outputs):
    full, half = (
        outputs(small(dtype=dtype, classifier_activation=None), images)["predictions"]
        for dtype in (None, "mixed_float16")
    )
    # float16 keeps 11 bits; a hundred layers lose some of them.
    assert np.abs(full - half).max() < 0.05 * np.abs(full).max()
