# SPDX-License-Identifier: Apache-2.0
"""ONNX: `model.onnx`, for ONNX Runtime and other readers."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np

from inception_tf.host.process_state import environment_variables
from inception_tf.host.silence import silence
from inception_tf.inference.runtimes.graph import (
    INPUT_NAME,
    OUTPUT_NAME,
    conversion_model,
    input_spec,
)
from inception_tf.inference.runtimes.packages import import_package

if TYPE_CHECKING:
    import onnx

__all__ = ["FILES", "INT8", "PACKAGES", "check_installed", "load_model", "to_onnx", "write_model"]

FILES = ("model.onnx",)
PACKAGES = ("onnx", "tf2onnx", "onnxruntime")
INT8 = None
OPSET = 18  # the newest that tf2onnx 1.17 writes
BATCH = "N"  # the name of the first dimension
# ONNX Runtime reports each session to Microsoft, on Linux as well, unless this is set when it is imported.
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
# Unless it is set, tf2onnx copies the graph with all weights before each of its dozens of optimizations, to go back
# where one fails; the copies are cycles, which Python collects late: 4 GB more for Inception V3.
COPIES = "TF2ONNX_CATCH_ERRORS"


def check_installed(int8: bool = False) -> None:
    """Checks that the packages of this runtime are installed; see `Runtime.check_installed`."""
    for package in PACKAGES:
        _imported(package)


def to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Converts a model to float32 ONNX, with batch normalization folded, for any batch size.

    Args:
        model: A functional model (N, H, W, C) → (N, K).

    Returns:
        An `onnx.ModelProto` with `images` as input and `probabilities` as output.
    """
    import onnx

    network = conversion_model(model)
    network = keras.Model(network.inputs, {OUTPUT_NAME: network.output})
    with tempfile.TemporaryDirectory() as scratch, silence():
        path = Path(scratch, FILES[0])
        export = functools.partial(
            network.export,
            str(path),
            format="onnx",
            verbose=False,
            input_signature=[input_spec(network)],
            opset_version=OPSET,
        )
        try:
            with environment_variables(**{COPIES: "FALSE"}):
                export()
        except Exception:  # whatever an optimization fails with: then without it
            export()
        converted = onnx.load(path)
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    onnx.checker.check_model(converted)
    return converted


def write_model(
    model: keras.Model, folder: Path, calibration: Sequence[np.ndarray] | None = None
) -> None:
    """Converts a model and writes `FILES`; see `Runtime.write_model`."""
    import onnx

    onnx.save(to_onnx(model), folder / FILES[0])


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads `FILES` to run on the processor; see `Runtime.load_model`."""
    session = _imported("onnxruntime").InferenceSession(
        folder / FILES[0], providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]


def _imported(package: str) -> ModuleType:
    # "0" in the environment is a user's own choice.
    with environment_variables(**{NO_TELEMETRY: os.environ.get(NO_TELEMETRY, "1")}):
        return import_package(package, "format 'onnx'", package, "onnx")
