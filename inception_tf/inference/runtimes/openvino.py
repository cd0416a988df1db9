# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: `model.xml` and `model.bin`; int8 by NNCF."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from inception_tf.host.private_names import PrivateName, PrivateNames
from inception_tf.host.signal_stack import signal_stack
from inception_tf.host.silence import silence
from inception_tf.inference.runtimes.graph import concrete_function, conversion_model
from inception_tf.inference.runtimes.packages import import_package

if TYPE_CHECKING:
    import openvino

__all__ = [
    "FILES",
    "INT8",
    "PACKAGES",
    "check_installed",
    "compile_for_cpu",
    "load_model",
    "quantize_openvino",
    "to_openvino",
    "openvino_version",
    "write_model",
]

FILES = ("model.xml", "model.bin")
PACKAGES = ("openvino", "nncf")
# How `quantize_openvino` calls NNCF, which differs from its defaults in both.  The range from the smallest to the largest
# value, in place of the mean of each image's: probabilities of two networks diverge a fifth as far.  The
# accurate correction of biases, in place of the fast one: that one is worse than none on three of four networks.
INT8: dict[str, Any] = {
    "by": "nncf.quantize",
    "preset": "mixed",
    "bias_correction": "accurate",
    "activation_range": "minimum to maximum",
}
NNCF = PrivateNames(
    "nncf>=3.0,<4",
    (
        PrivateName(
            *("nncf.quantization.range_estimator", "RangeEstimatorParametersSet"),
            "int8 with ranges from minimum to maximum",
        ),
    ),
)
# By default OpenVINO computes in bfloat16 where the processor has units for it.
HINT, THREADS = "INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"
EXACT = {HINT: "f32"}
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "bf16"}
TELEMETRY = "openvino_telemetry"


def check_installed(int8: bool = False) -> None:
    """Checks that the packages of this runtime are installed; see `Runtime.check_installed`."""
    _openvino()
    if int8:
        _nncf()


def to_openvino(model: keras.Model) -> openvino.Model:
    """Converts a model to float32 OpenVINO, with batch normalization folded, for any batch size.

    One transposition remains, of the images.

    Args:
        model: A functional model (N, H, W, C) → (N, K).

    Returns:
        An `openvino.Model` with `images` as input and `probabilities` as output.
    """
    runtime = _openvino()
    with silence():
        # A model with shared weights would read the Keras model's memory.
        return runtime.convert_model(
            concrete_function(conversion_model(model)), share_weights=False
        )


def quantize_openvino(
    converted: openvino.Model, calibration: Sequence[np.ndarray]
) -> openvino.Model:
    """Quantizes convolutions and dense layers to int8.

    Args:
        converted: An `openvino.Model` in float32.
        calibration: Batches (N, H, W, C) float32, which give the ranges.

    Returns:
        The quantized `openvino.Model`.
    """
    nncf = _nncf()
    ranges = NNCF.get("RangeEstimatorParametersSet").MINMAX
    with silence(), signal_stack():
        return nncf.quantize(
            converted,
            nncf.Dataset(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False,
            subset_size=len(calibration),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges
            ),
        )


def write_model(
    model: keras.Model, folder: Path, calibration: Sequence[np.ndarray] | None = None
) -> None:
    """Converts a model and writes `FILES`; see `Runtime.write_model`."""
    converted = to_openvino(model)
    if calibration:
        converted = quantize_openvino(converted, calibration)
    # float16, OpenVINO's default, would change probabilities by 1e-3.
    _openvino().save_model(converted, folder / FILES[0], compress_to_fp16=False)


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads `FILES` to run on the processor; see `Runtime.load_model`."""
    with signal_stack():
        network = _openvino().compile_model(folder / FILES[0], "CPU", EXACT)
    request = network.create_infer_request()
    return lambda images: request.infer([images])[0].copy()  # the next call writes there again


def compile_for_cpu(
    model: keras.Model,
    calibration: Sequence[np.ndarray] | None,
    precision: str,
    threads: int | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """Converts and compiles a model for the processor, without files.

    Args:
        model: A functional model (N, H, W, C) → (N, K).
        calibration: Batches of images for int8, else None.
        precision: float32, bfloat16, float16 or int8, which computes in bfloat16 what it does not quantize.
        threads: None for all cores.

    Returns:
        (N, H, W, C) float32 → (N, K) float32.
    """
    converted = to_openvino(model)
    if calibration:
        converted = quantize_openvino(converted, calibration)
    settings = {HINT: HINTS[precision]} | ({THREADS: threads} if threads else {})
    with signal_stack():
        network = _openvino().compile_model(converted, "CPU", settings)
    request = network.create_infer_request()
    return lambda images: request.infer([images])[0].copy()


def openvino_version() -> str:
    """Reads the version of the installed OpenVINO.

    Returns:
        The version without its build number, such as `2026.0.0`.
    """
    return _openvino().__version__.partition("-")[0]


def _openvino() -> ModuleType:
    with _without_telemetry():
        return import_package("openvino", "format 'openvino'", "openvino", "openvino")


def _nncf() -> ModuleType:
    with _without_telemetry():
        return import_package("nncf", "int8 for OpenVINO", "nncf", "openvino")


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hides the package that reports to Intel from imports while the block runs, so that nothing is sent.

    A program that has imported it before has made its own choice.
    """
    if TELEMETRY in sys.modules:
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
