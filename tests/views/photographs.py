# SPDX-License-Identifier: Apache-2.0
"""Three photographs from the two of scikit-learn: landscape, portrait, and a large one with noise, as cameras have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

STEP = 19  # every so many pixels of a view in both directions are compared


def photographs(folder: Path) -> dict[str, np.ndarray]:
    """Name → uint8 (H, W, 3).

    Args:
        folder: `sklearn/datasets/images`.
    """
    landscape = np.asarray(Image.open(folder / "china.jpg").convert("RGB"))  # 427x640
    flower = np.asarray(Image.open(folder / "flower.jpg").convert("RGB"))
    large = landscape.repeat(5, axis=0).repeat(5, axis=1).astype(np.int64)[:-3, :-1]  # 2132x3199
    noise = np.random.RandomState(0).randint(-20, 21, large.shape)
    return {
        "landscape": landscape,
        "portrait": flower.transpose(1, 0, 2)[:, :351],  # 640x351
        "large": np.clip(large + noise, 0, 255).astype(np.uint8),
    }


def sampled(view: np.ndarray) -> np.ndarray:
    """Every `STEP`th pixel of a network's input, (size, size, 3)."""
    return view[::STEP, ::STEP]
