# SPDX-License-Identifier: Apache-2.0
"""Made-up settings of a timing."""

from __future__ import annotations

from inception_tf.benchmark.report import BenchmarkSettings


def setting(**changes) -> BenchmarkSettings:
    """A forward pass of 0.2 GFLOP per image at batch 4."""
    made_up = {
        "what": "Forward",
        "model": "inception_v1",
        "parameters": 10,
        "multiply_adds": 10**8,
        "backward_multiply_adds": 0,
        "batch_size": 4,
        "size": 64,
        "precision": "float32",
        "device": "CPU",
        "threads": 2,
        "backend": "TensorFlow",
    }
    return BenchmarkSettings(**(made_up | changes))
