# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: `model.xml` and `model.bin`; int8 by NNCF."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from inception_tf.host.private_names import PrivateName, PrivateNames
from inception_tf.host.silence import silence
from inception_tf.inference.runtimes.graph import concrete_function, conversion_model
from inception_tf.inference.runtimes.packages import import_package

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
# How `quantized` calls NNCF, which differs from its defaults in both.  The range from the smallest to the largest
# value, in place of the mean of each image's: probabilities of two networks diverge a fifth as far.  The
# accurate correction of biases, in place of the fast one: that one is worse than none on three of four networks.
INT8 = {
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
# Left to itself OpenVINO computes in bfloat16 where the processor has units for it.
HINT, THREADS = "INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"
EXACT = {HINT: "f32"}
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "bf16"}
TELEMETRY = "openvino_telemetry"


def check_installed(int8: bool = False) -> None:
    """Raises `UserError` where a package is missing."""
    _openvino()
    if int8:
        _nncf()


def to_openvino(model: keras.Model):
    """A functional Keras model, (N, H, W, C) → (N, K), as an `openvino.Model` with `images` in and `probabilities` out.

    Float32, batch normalization folded, of any batch size.  One transposition is left, of the images.
    """
    openvino = _openvino()
    with silence():
        # Sharing weights would leave a model that reads memory of the Keras model's.
        return openvino.convert_model(
            concrete_function(conversion_model(model)), share_weights=False
        )


def quantize_openvino(converted, calibration: Sequence[np.ndarray]):
    """An `openvino.Model` with int8 convolutions and dense layers, their ranges from batches (N, H, W, C) float32."""
    nncf = _nncf()
    ranges = NNCF.get("RangeEstimatorParametersSet").MINMAX
    with silence():
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
    """`FILES` of a functional Keras model into `folder`; in int8 where there are images to calibrate with."""
    converted = to_openvino(model)
    if calibration:
        converted = quantize_openvino(converted, calibration)
    # Half of the bits, which is OpenVINO's default, would cost 1e-3 of a probability.
    _openvino().save_model(converted, folder / FILES[0], compress_to_fp16=False)


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What the files in `folder` compute, on the processor."""
    network = _openvino().compile_model(folder / FILES[0], "CPU", EXACT)
    request = network.create_infer_request()
    return lambda images: request.infer([images])[0].copy()  # the next call writes there again


def compile_for_cpu(
    model: keras.Model,
    calibration: Sequence[np.ndarray] | None,
    precision: str,
    threads: int | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """A functional Keras model on the processor, without files between: (N, H, W, C) float32 → (N, K) float32.

    precision: float32, bfloat16, float16, or int8 with images in `calibration`; what int8 leaves is bfloat16.
    threads: None for all cores.
    """
    converted = to_openvino(model)
    if calibration:
        converted = quantize_openvino(converted, calibration)
    settings = {HINT: HINTS[precision]} | ({THREADS: threads} if threads else {})
    request = _openvino().compile_model(converted, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images])[0].copy()


def openvino_version() -> str:
    return _openvino().__version__.partition("-")[0]


def _openvino():
    with _without_telemetry():
        return import_package("openvino", "format 'openvino'", "openvino", "openvino")


def _nncf():
    with _without_telemetry():
        return import_package("nncf", "int8 for OpenVINO", "nncf", "openvino")


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Imports meanwhile find no package that reports to Intel, and never send anything.

    Where the program has imported it before, that is the program's own choice.
    """
    if TELEMETRY in sys.modules:
        yield
        return
    sys.modules[TELEMETRY] = None
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
