# SPDX-License-Identifier: Apache-2.0
"""A network in the form of another runtime: OpenVINO, ONNX and LiteRT, each a module with the same names.

`FILES` are what `write(model, folder, calibration)` makes, `PACKAGES` and `INT8` what with, and
`load(folder)` gives a function (N, H, W, 3) float32 → (N, K) float32 for any N.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from inception_tf.errors import unknown

__all__ = ["FORMATS", "find_runtime"]

FORMATS = ("litert", "onnx", "openvino")


def find_runtime(name: str) -> ModuleType:
    """The module of the runtime called `name`, one of `FORMATS`."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return importlib.import_module(f"inception_tf.inference.runtimes.{name}")
