# SPDX-License-Identifier: Apache-2.0
"""What a training would take, told before it starts."""

from __future__ import annotations

import math

import tensorflow as tf

from inception_tf.training.compile import compiled_model
from inception_tf.training.plan import TrainingPlan

__all__ = ["estimate"]


def estimate(plan: TrainingPlan) -> dict:
    """Parameters, steps and memory of a run: nothing is trained, nothing is written.

    memory: bytes by use.  `weights` with the optimizer's variables, `gradients`, and `activations`,
    which every layer's output counts towards because the backward pass needs it; the framework
    itself, the input queue and the convolutions' work space come on top.
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


def _output_bytes(layer) -> int:
    """Bytes of a layer's output for one image."""
    outputs = layer.output if isinstance(layer.output, list) else [layer.output]
    return sum(math.prod(x.shape[1:]) * _size(x.dtype) for x in outputs)


def _numbers(variable) -> int:
    return math.prod(variable.shape)


def _bytes(variable) -> int:
    return _numbers(variable) * _size(variable.dtype)


def _size(dtype: str) -> int:
    return tf.as_dtype(dtype).size
