# SPDX-License-Identifier: Apache-2.0
"""Weights by a rule, in the names and shapes of `pt_inception-2015-12-05-6726825d.pth`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import ramps


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Parameter name → float32 array, large enough that nothing dies out on the way through the network."""
    return {name: _array(name, shape) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith(".bn.weight"):
        return np.ones(shape, np.float32)  # as in the published file
    u = ramps.uniform(name, shape)
    if name.endswith("running_var"):
        return 1 + u / 2
    return u * np.float32((6 / np.prod(shape[1:])) ** 0.5) if len(shape) > 1 else u / 4
