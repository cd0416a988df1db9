# SPDX-License-Identifier: Apache-2.0
"""The four tools and this package on the same weights and images, at every tap; the table is in docs/fid.md."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trained_v3
from other_packages import INTERPRETER

sys.path.insert(0, str(Path(__file__).parent / "generative"))

import parity

from inception_tf.generative import CONVENTIONS

FEATURES = 2e-6  # of a tap's largest value
METRICS = {"fid": 1e-5, "is": 1e-6, "kid": 1e-4, "precision": 1e-4, "recall": 1e-4}  # relative
# All covariances are singular here: torchmetrics adds the roots of rounding errors, 1.2e-5 of FID measured.
ROOTS = {("torchmetrics", "fid 2048"): 3e-5}
# KID is a difference of means of kernels around 1, which the tools sum in float32, and may be near 0.
NEAR_ZERO = {"kid": 1e-5}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["rule", "trained"])
def compared(request, tmp_path_factory):
    """The features' errors, and the metrics here and there."""
    python = os.environ.get(INTERPRETER)
    if not python:
        pytest.skip(f"{INTERPRETER} is not set: the Python of an environment with the four tools")
    if request.param == "rule":
        state = parity.state_by_the_rule()
    else:
        state = parity.trained_state(request.getfixturevalue("test_data") / trained_v3.FILE)
    return parity.compare(python, state, tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("tool", CONVENTIONS)
def test_features_are_those_of_each_tool_at_every_tap(compared, tool):
    errors = compared[0][tool]
    assert set(parity.TAPS) <= errors.keys()
    assert max(errors.values()) < FEATURES, errors


@pytest.mark.parametrize("tool", CONVENTIONS)
def test_metrics_are_those_of_each_tool_at_every_tap(compared, tool):
    _, ours, theirs = compared
    assert theirs[tool].keys() == ours[tool].keys()
    assert {f"fid {tap}" for tap in parity.TAPS} <= ours[tool].keys()
    for name, value in theirs[tool].items():
        metric = name.split()[0]
        relative = ROOTS.get((tool, name), METRICS[metric])
        expected = pytest.approx(value, rel=relative, abs=NEAR_ZERO.get(metric, 0))
        assert ours[tool][name] == expected, name
