# SPDX-License-Identifier: Apache-2.0
"""Networks in the formats of other runtimes: OpenVINO, ONNX and LiteRT, each a module with the names of `Runtime`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from inception_tf.errors import unknown

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["FORMATS", "Runtime", "find_runtime"]

FORMATS = ("litert", "onnx", "openvino")


class Runtime(Protocol):
    """What the module of each runtime has."""

    FILES: tuple[str, ...]  # that `write_model` makes
    PACKAGES: tuple[str, ...]  # distributions that it needs
    INT8: dict[str, Any] | None  # how int8 ranges are found; None where it has no int8

    def check_installed(self, int8: bool = False) -> None:
        """Checks that the packages are installed.

        Args:
            int8: Also what quantization needs.

        Raises:
            UserError: A package is missing.
        """

    def write_model(
        self, model: keras.Model, folder: Path, calibration: Sequence[np.ndarray] | None = None
    ) -> None:
        """Converts a functional model and writes `FILES`.

        Args:
            model: (N, H, W, C) → (N, K).
            folder: Where to write.
            calibration: Batches (N, H, W, C) float32 for int8; None for float32.
        """

    def load_model(self, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
        """Loads `FILES` to run on the processor.

        Args:
            folder: Where they are.

        Returns:
            (N, H, W, C) float32 → (N, K) float32, for any N.
        """


def find_runtime(name: str) -> Runtime:
    """Imports the module of a runtime.

    Args:
        name: One of `FORMATS`.

    Returns:
        The module.

    Raises:
        UserError: The name is unknown.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return cast(Runtime, importlib.import_module(f"inception_tf.inference.runtimes.{name}"))
