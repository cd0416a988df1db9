# SPDX-License-Identifier: Apache-2.0
"""FID and its relatives: how the distributions of two sets of images are compared."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "CONVENTIONS",
    "Convention",
    "FID",
    "FeatureStatistics",
    "FrechetInceptionDistance",
    "InceptionFeatures",
    "compute",
    "fid",
    "frechet_distance",
    "frechet_distance_to_infinity",
    "inception_score",
    "kernel_distance",
    "precision_recall",
]

# Public name → the module that defines it.
_MODULES = {
    "CONVENTIONS": "conventions",
    "Convention": "conventions",
    "FID": "keras_callback",
    "FeatureStatistics": "statistics",
    "FrechetInceptionDistance": "keras_metric",
    "InceptionFeatures": "keras_features",
    "compute": "comparison",
    "fid": "comparison",
    "frechet_distance": "frechet",
    "frechet_distance_to_infinity": "frechet",
    "inception_score": "metrics",
    "kernel_distance": "metrics",
    "precision_recall": "metrics",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'inception_tf.generative' has no attribute '{name}'")
    return getattr(importlib.import_module(f"inception_tf.generative.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
