# SPDX-License-Identifier: Apache-2.0
"""One training step of a converted network here, to be compared with the one of the network that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import parity_torch
import tensorflow as tf
from parity_torch import AFTER, EVAL, GRADIENT, LOGITS, Job

from inception_tf.models import variant
from inception_tf.nn.network import build_model
from inception_tf.weights.convert import read_foreign_weights
from inception_tf.weights.names.torch import flatten, torch_names


def state_of(job: Job) -> dict[str, np.ndarray]:
    """The weights by the rule of `parity_torch`, in torch's names and layout, without torch."""
    network = variant(job.network, batch_norm_scale=True, **job.switches)
    names = torch_names(network)
    model = build_model(
        network,
        classes=parity_torch.CLASSES,
        aux_logits=bool(job.auxiliaries),
        input_shape=(*(job.size,) * 2, 3),
    )
    state = {}
    for variable in model.weights:
        name = names[variable.path]
        shape = in_torchs_layout(name, np.broadcast_to(np.float32(0), tuple(variable.shape))).shape
        state[name] = parity_torch.weight(name, shape)
    return state


def in_torchs_layout(name: str, array: np.ndarray) -> np.ndarray:
    array = flatten(name, array)
    return array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim))))


def step(path: Path, job: Job, dtype: str, *, folded: bool = False) -> dict[str, np.ndarray]:
    """What `parity_torch.step` finds, from a converted file, in torch's names and layout.

    Args:
        path: a state dict.
        job: what it is of.
        dtype: float32, which runs TensorFlow's fused operation, or float64, Keras' own computation.
        folded: build the network without gammas.

    Moving variances are converted to torch's convention (`unbiased`).
    """
    found = read_foreign_weights(job.network, job.source, path)
    assert found.switches == job.switches | {"batch_norm_scale": True}
    network = variant(job.network, **job.switches) if folded else found.network
    model = build_model(
        network,
        classes=parity_torch.CLASSES,
        classifier_activation=None,
        aux_logits=bool(job.auxiliaries),
        input_shape=(job.size, job.size, 3),
        dropout=0.0,
        batch_norm_momentum=1 - parity_torch.MOMENTUM,
        dtype=dtype,
    )
    for layer in model.layers:  # also of the auxiliary classifiers
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    found.assign(model)
    before = {v.path: v.numpy() for v in model.weights if "/moving_" in v.path}
    images, labels = tf.constant(parity_torch.images(job), dtype), parity_torch.labels(job)
    factors = (1.0, *job.auxiliaries)

    @tf.function
    def run(training):
        with tf.GradientTape() as tape:
            outputs = model(images, training=training)
            ends = in_order(outputs)
            if not training:
                return ends, None
            losses = [
                tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, end))
                for end in ends
            ]
            loss = sum(factor * loss for factor, loss in zip(factors, losses, strict=True))
        return ends, tape.gradient(loss, model.trainable_variables)

    names, results = found.names, {f"{EVAL}0": run(False)[0][0].numpy()}
    ends, gradients = run(True)
    results |= {f"{LOGITS}{number}": end.numpy() for number, end in enumerate(ends)}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        name = names[variable.path]
        results[f"{GRADIENT}{name}"] = in_torchs_layout(name, gradient.numpy())
    for variable in [v for v in model.weights if "/moving_" in v.path]:
        after, layer = variable.numpy(), model.get_layer(variable.path.split("/")[0])
        if variable.path.endswith("moving_variance"):
            values = job.batch * np.prod(layer.output.shape[1:-1])
            after = unbiased(before[variable.path], after, values)
        results[f"{AFTER}{names[variable.path]}"] = after
    return results


def in_order(outputs) -> list:
    """A model's outputs, the predictions first, then the auxiliary ones."""
    if not isinstance(outputs, dict):
        return [outputs]
    return [
        outputs[name] for name in sorted(outputs, key=lambda name: (name != "predictions", name))
    ]


def unbiased(before: np.ndarray, after: np.ndarray, values: float) -> np.ndarray:
    """A moving variance as torch would have it, which averages the variance over n - 1 and not over n values."""
    old = (1 - parity_torch.MOMENTUM) * before
    return old + (after - old) * values / (values - 1)


def errors(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each array by the array's largest value."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return {
        name: float(np.abs(found[name] - array).max() / np.abs(array).max())
        for name, array in expected.items()
    }
