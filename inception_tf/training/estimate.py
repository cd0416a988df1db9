# SPDX-License-Identifier: Apache-2.0
"""The cost of a training, estimated before it starts."""

from __future__ import annotations

import math

import keras
import numpy as np

from inception_tf.training.compile import compiled_model
from inception_tf.training.plan import TrainingPlan

__all__ = ["estimate"]


def estimate(plan: TrainingPlan) -> dict:
    """Estimates parameters, steps and memory of a run; nothing is trained or written.

    Args:
        plan: the resolved configuration and its data.

    Returns:
        `parameters`, `trainable`, `images`, `steps_per_epoch`, `steps`, and `memory`, bytes by use: `weights`
        with the optimizer's variables, `gradients`, and `activations`, every layer's output, which the
        backward pass needs.  The framework, the input queue and the convolutions' workspace come on top.
    """
    model = compiled_model(plan)
    model.optimizer.build(model.trainable_variables)
    batch = plan.config.data.batch_size
    return {
        "parameters": model.count_params(),
        "trainable": sum(map(_numbers, model.trainable_variables)),
        "images": len(plan.train),
        "steps_per_epoch": plan.steps,
        "steps": plan.steps * plan.config.training.epochs,
        "memory": {
            "weights": sum(map(_bytes, (*model.variables, *model.optimizer.variables))),
            "gradients": sum(map(_bytes, model.trainable_variables)),
            "activations": batch * sum(map(_output_bytes, model.layers)),
        },
    }


def _output_bytes(layer: keras.layers.Layer) -> int:
    """Bytes of a layer's output for one image."""
    outputs = layer.output if isinstance(layer.output, list) else [layer.output]
    return sum(math.prod(x.shape[1:]) * _size(x.dtype) for x in outputs)


def _numbers(variable: keras.Variable) -> int:
    return math.prod(variable.shape)


def _bytes(variable: keras.Variable) -> int:
    return _numbers(variable) * _size(variable.dtype)


def _size(dtype: str) -> int:
    return np.dtype(dtype).itemsize  # ml_dtypes, which Keras imports, gives NumPy bfloat16
