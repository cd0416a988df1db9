# SPDX-License-Identifier: Apache-2.0
"""LiteRT, formerly TensorFlow Lite: `model.tflite`; int8 by ai-edge-quantizer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.host.hardware import usable_cores
from inception_tf.host.private_names import PrivateName, PrivateNames
from inception_tf.host.silence import silence
from inception_tf.inference.runtimes.graph import (
    INPUT_NAME,
    OUTPUT_NAME,
    concrete_function,
    conversion_model,
)
from inception_tf.inference.runtimes.packages import import_package

__all__ = [
    "FILES",
    "INT8",
    "PACKAGES",
    "check_installed",
    "load_model",
    "quantize_litert",
    "to_litert",
    "write_model",
]

FILES = ("model.tflite",)
PACKAGES = ("ai-edge-litert", "ai-edge-quantizer")
SIGNATURE = "serving_default"
# Images and probabilities stay float32, so that a client needs no scales, and so does the softmax: in steps
# of 1/256 all but the best classes would be zero.
FLOAT = ("INPUT", "OUTPUT", "SOFTMAX")
# How `quantize_litert` calls ai-edge-quantizer, which differs from its recipe in both.  The range from the smallest to
# the largest value, in place of a moving average of each image's: with that, BVLC's GoogLeNet loses 5.8 points
# of top-1.  The classifier's logits in float32, its weights in 8 bits: with 8-bit logits it loses 1.2, so 0.3.
INT8: dict[str, Any] = {
    "by": "ai_edge_quantizer",
    "recipe": "static_wi8_ai8",
    "float": [name.lower() for name in FLOAT],
    "classifier": "8-bit weights, float32 logits",
    "activation_range": "minimum to maximum",
}
_RANGES = "int8 with ranges from minimum to maximum"
QUANTIZER = PrivateNames(
    "ai-edge-quantizer>=0.10,<1",
    (
        PrivateName("ai_edge_quantizer.calibrator", "Calibrator", _RANGES),
        PrivateName("ai_edge_quantizer.calibrator", "CalibrationMode", _RANGES),
        PrivateName("ai_edge_quantizer.recipe_manager", "RecipeManager", _RANGES),
        PrivateName("ai_edge_quantizer.utils.qsv_utils", "min_max_update", _RANGES),
    ),
)


def check_installed(int8: bool = False) -> None:
    """Checks that the packages of this runtime are installed; see `Runtime.check_installed`."""
    import_package("ai_edge_litert.interpreter", "format 'litert'", "ai-edge-litert", "litert")
    if int8:
        import_package(
            "ai_edge_quantizer.quantizer", "int8 for LiteRT", "ai-edge-quantizer", "litert"
        )


def to_litert(model: keras.Model) -> bytes:
    """Converts a model to float32 TFLite, with batch normalization folded, for any batch size, in TFLite's own operations.

    Args:
        model: A functional model (N, H, W, C) → (N, K).

    Returns:
        The content of the file, with `images` as input and `probabilities` as output.
    """
    network = conversion_model(model)
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.network = concrete_function(network)
    with tempfile.TemporaryDirectory() as scratch, silence():
        # Via a SavedModel: only that gives the file a signature, whose tensors have names.
        tf.saved_model.save(module, scratch, signatures={SIGNATURE: module.network})
        return tf.lite.TFLiteConverter.from_saved_model(scratch).convert()


def quantize_litert(converted: bytes, calibration: Sequence[np.ndarray]) -> bytes:
    """Quantizes weights and feature maps to int8.

    Args:
        converted: A TFLite file of `to_litert`.
        calibration: Batches (N, H, W, C) float32, which give the ranges.

    Returns:
        The content of the quantized file.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe

    job = quantizer.Quantizer(converted, recipe.static_wi8_ai8())
    for name in FLOAT:
        job.update_quantization_recipe(
            ".*", qtyping.TFLOperationName[name], algorithm_key="no_quantize"
        )
    job.add_dynamic_config(".*", qtyping.TFLOperationName.FULLY_CONNECTED, num_bits=8)
    recipes = QUANTIZER.get("RecipeManager")()
    recipes.load_quantization_recipe(job.get_quantization_recipe())
    with silence():
        # `job.calibrate` has the moving average.
        ranges = QUANTIZER.get("Calibrator")(
            converted,
            num_threads=usable_cores(),
            mode=QUANTIZER.get("CalibrationMode").CALIBRATION_PROFILER_BASED,
            qsv_update_func=QUANTIZER.get("min_max_update"),
        )
        ranges.calibrate({SIGNATURE: [{INPUT_NAME: batch} for batch in calibration]}, recipes)
        return bytes(job.quantize(ranges.get_model_qsvs()).quantized_model)


def write_model(
    model: keras.Model, folder: Path, calibration: Sequence[np.ndarray] | None = None
) -> None:
    """Converts a model and writes `FILES`; see `Runtime.write_model`."""
    converted = to_litert(model)
    if calibration:
        converted = quantize_litert(converted, calibration)
    (folder / FILES[0]).write_bytes(converted)


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads `FILES` to run on the processor; see `Runtime.load_model`."""
    from ai_edge_litert.interpreter import Interpreter

    with silence():
        interpreter = Interpreter(str(folder / FILES[0]), num_threads=usable_cores())
        interpreter.allocate_tensors()  # prints a line
        runner = interpreter.get_signature_runner(SIGNATURE)
    return lambda images: runner(**{INPUT_NAME: images})[OUTPUT_NAME]
