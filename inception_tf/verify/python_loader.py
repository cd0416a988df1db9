# SPDX-License-Identifier: Apache-2.0
"""A SavedModel loaded by TensorFlow's Python, on the processor, next to the C++ loader of `subprocess_loader`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.savedmodel.python_loader import load_saved_model
from inception_tf.verify.check import CheckSkippedError

__all__ = ["load_in_python", "network_of", "on_cpu"]


def load_in_python(folder: Path) -> Any:
    """Loads a SavedModel by TensorFlow's Python, on the processor.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        What `tf.saved_model.load` gives.

    Raises:
        UserError: It does not load.
    """
    with on_cpu():
        return load_saved_model(folder)


def network_of(loaded: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Finds the network in a loaded export.

    Args:
        loaded: What `load_in_python` returned.

    Returns:
        (N, size, size, 3) float32 → `probabilities` (N, K) and, where it is exported, `features` (N, D).

    Raises:
        CheckSkippedError: It has none, which only exports of this package have.
    """
    network = getattr(loaded, "network", None)
    if network is None:
        raise CheckSkippedError(
            "it has no function `network`, which only exports of this package have"
        )

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with on_cpu():
            found = network(tf.constant(pixels))
        outputs = found if isinstance(found, dict) else {"probabilities": found}
        return {name: value.numpy() for name, value in outputs.items()}

    return run


def on_cpu() -> contextlib.AbstractContextManager[None]:
    """Computes on the processor, as the child process does: an accelerator's TF32 alone is coarser than the tolerance.

    Returns:
        A context manager.
    """
    return tf.device("/CPU:0")
