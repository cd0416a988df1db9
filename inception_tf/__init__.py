# SPDX-License-Identifier: Apache-2.0
"""The Inception family in Keras 3: models, training, evaluation, serving and timing.

Importing this package imports neither TensorFlow nor Keras; the first name used does.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

# Public name → the module that defines it.  What is not listed here may change without notice.
_HOMES = {
    "AlexNet": "inception_tf.applications",
    "BNInception": "inception_tf.applications",
    "GoogLeNet": "inception_tf.applications",
    "Inception": "inception_tf.applications",
    "InceptionResNetV1": "inception_tf.applications",
    "InceptionResNetV2": "inception_tf.applications",
    "InceptionV1": "inception_tf.applications",
    "InceptionV2": "inception_tf.applications",
    "InceptionV3": "inception_tf.applications",
    "InceptionV4": "inception_tf.applications",
    "VGG16": "inception_tf.applications",
    "UserError": "inception_tf.errors",
    "create_model": "inception_tf.applications",
    "expanded_3x3": "inception_tf.blocks",
    "factorized_5x5": "inception_tf.blocks",
    "factorized_nxn": "inception_tf.blocks",
    "inception_module": "inception_tf.blocks",
    "decode_predictions": "inception_tf.applications",
    "endpoints": "inception_tf.nn.network",
    "list_models": "inception_tf.models",
    "load_weights": "inception_tf.weights",
    "optimize_for_inference": "inception_tf.inference.optimize",
    "preprocess_input": "inception_tf.applications",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'inception_tf' has no attribute '{name}'")
    from inception_tf.errors import needs_backend

    with needs_backend():
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
