# SPDX-License-Identifier: Apache-2.0
"""Images by a rule, and the rows of their resized form that are recorded: for record_resizes.py and its test."""

from __future__ import annotations

import numpy as np
import ramps

# Enlarged, reduced, both, of the network's own size, and one pixel wide.
SIZES = ((32, 48), (375, 500), (427, 480), (640, 150), (299, 299), (20, 1))
ROWS = np.array([0, 1, 100, 197, 298])
COLUMNS = 9  # every ninth


def image(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8, rough: neighbors differ by up to 255."""
    u = ramps.uniform(f"image of {height}x{width}", (height, width, 3))
    return np.rint((u - u.min()) / (u.max() - u.min()) * 255).astype(np.uint8)
