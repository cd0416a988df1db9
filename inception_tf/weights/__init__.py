# SPDX-License-Identifier: Apache-2.0
"""Loading weights into models: by name, checked, all or nothing.

The file formats below are read without Keras, which `load_weights` imports.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Report", "load_weights"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'inception_tf.weights' has no attribute '{name}'")
    return getattr(importlib.import_module("inception_tf.weights.load"), name)


def __dir__() -> list[str]:
    return list(__all__)
