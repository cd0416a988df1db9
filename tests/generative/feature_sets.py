# SPDX-License-Identifier: Apache-2.0
"""Two sets of features and one of logits by a rule, which the tools and the tests both compute."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import ramps

FEATURES, CLASSES = 24, 12


def features(name: str, count: int, shift: float) -> np.ndarray:
    """(count, FEATURES) float32, correlated and not below 0, as a network's are."""
    mixing = ramps.uniform("mixing", (FEATURES, FEATURES)).astype(np.float64)
    values = ramps.uniform(name, (count, FEATURES)).astype(np.float64) @ mixing
    return np.maximum(values + shift, 0).astype(np.float32)


def wide_sets() -> dict[str, np.ndarray]:
    """Two sets of 768 features with a spectrum that falls over four decades, and few more images than features."""
    scales = np.logspace(0, -4, 768)
    return {
        f"wide {name}": (ramps.uniform(f"wide {name}", (800, 768)) * scales + shift).astype(
            np.float32
        )
        for name, shift in (("first", 0.4), ("second", 0.41))
    }


def logits(count: int) -> np.ndarray:
    """(count, CLASSES) float32."""
    return 4 * ramps.uniform("logits", (count, CLASSES))


def sets() -> dict[str, np.ndarray]:
    """Name → array: two sets, two with fewer images than features, and logits."""
    return {
        "first": features("first", 330, 0.5),
        "second": features("second", 310, 0.8),
        "few of first": features("few of first", 20, 0.5),
        "few of second": features("few of second", 18, 0.8),
        "logits": logits(235),
    }
