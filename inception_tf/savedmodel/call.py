# SPDX-License-Identifier: Apache-2.0
"""A request to a SavedModel, independent of the program that runs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Call"]


@dataclass(frozen=True)
class Call:
    """One request: a signature and its inputs; strings are object arrays of bytes."""

    signature: str
    inputs: dict[str, np.ndarray]  # by the signature's names
