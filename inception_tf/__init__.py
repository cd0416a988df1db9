# SPDX-License-Identifier: Apache-2.0
"""The Inception family in Keras 3: models, training, evaluation, serving and timing.

Importing this package imports neither TensorFlow nor Keras; the first name used does.
"""

from __future__ import annotations

import importlib
from typing import Any

from inception_tf.host.after_import import after_import

__version__ = "0.2.0"

# What is not listed here may change without notice.
__all__ = [
    "AlexNet",
    "BNInception",
    "GoogLeNet",
    "Inception",
    "InceptionResNetV1",
    "InceptionResNetV2",
    "InceptionV1",
    "InceptionV2",
    "InceptionV3",
    "InceptionV4",
    "UserError",
    "VGG16",
    "classifier",
    "create_model",
    "decode_predictions",
    "endpoints",
    "expanded_3x3",
    "factorized_5x5",
    "factorized_nxn",
    "finetune",
    "grad_cam",
    "inception_module",
    "list_models",
    "load_weights",
    "optimize_for_inference",
    "preprocess_input",
]

# Public name → the module that defines it, for those outside of `applications`.
_MODULES = {
    "UserError": "inception_tf.errors",
    "classifier": "inception_tf.serving.image_classifier",
    "finetune": "inception_tf.training.finetuning",
    "expanded_3x3": "inception_tf.blocks",
    "factorized_5x5": "inception_tf.blocks",
    "factorized_nxn": "inception_tf.blocks",
    "inception_module": "inception_tf.blocks",
    "endpoints": "inception_tf.nn.network",
    "grad_cam": "inception_tf.inference.saliency",
    "list_models": "inception_tf.models",
    "load_weights": "inception_tf.weights.load",
    "optimize_for_inference": "inception_tf.inference.optimize",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'inception_tf' has no attribute '{name}'")
    from inception_tf.errors import needs_backend

    module = _MODULES.get(name, "inception_tf.applications")
    with needs_backend():
        return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _register_layers() -> None:
    """Defines the layers and models that saved models name, so that Keras loads these in place of its own."""
    importlib.import_module("inception_tf.nn.auxiliary")
    importlib.import_module("inception_tf.nn.batch_norm")
    importlib.import_module("inception_tf.nn.local_response_norm")


# Otherwise a model that was loaded before any name of this package is used would normalize each replica apart.
after_import("keras", _register_layers)
