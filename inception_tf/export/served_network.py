# SPDX-License-Identifier: Apache-2.0
"""The part of a Keras model that is served: from the image to the probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.evaluation.features import feature_model

__all__ = ["check_labels", "is_untrained", "served_network", "with_features"]


def served_network(model: keras.Model, size: int) -> keras.Model:
    """Extracts the classifier from a Keras model, without auxiliary classifiers.

    Args:
        model: A functional model with one input.
        size: Height and width of the images, pixels.

    Returns:
        (N, size, size, 3) → (N, K) probabilities, sharing the layers of `model`.

    Raises:
        UserError: The model has another kind of input or output.
    """
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise UserError(
            f"export needs a functional model with one input; '{model.name}' is not one"
        )
    output = model.output
    if isinstance(output, dict):
        output = output.get("predictions")
    if not keras.utils.is_keras_tensor(output) or len(output.shape) != 2:
        raise UserError(
            f"export needs (N, classes) probabilities, alone or as 'predictions'; '{model.name}'"
            f" gives {model.output}"
        )
    wanted = (size, size, 3)
    takes = tuple(model.inputs[0].shape[1:])
    if len(takes) != 3 or any(a is not None and a != b for a, b in zip(takes, wanted, strict=True)):
        raise UserError(
            f"'{model.name}' takes images of {takes}, not {wanted}; export it with the size that it takes"
        )
    return keras.Model(model.inputs, output, name=model.name)


def with_features(network: keras.Model) -> keras.Model:
    """Adds the vector that the classifier is computed from to a network's outputs.

    Args:
        network: What `served_network` gives.

    Returns:
        A model with the same input, and `probabilities` (N, K) and `features` (N, D) as outputs.

    Raises:
        UserError: The network has no such vector.
    """
    outputs = {"probabilities": network.output, "features": feature_model(network).output}
    return keras.Model(network.inputs, outputs, name=network.name)


def is_untrained(network: keras.Model) -> bool:
    """Tells whether every bias, offset, mean and variance still has one value for all channels, as at initialization.

    Args:
        network: The model to look at.

    Returns:
        True where no training has touched the weights.
    """
    names = {"bias", "beta", "gamma", "moving_mean", "moving_variance"}
    vectors = [
        keras.ops.convert_to_numpy(v)
        for v in network.variables
        if v.name in names and v.shape[0] > 1
    ]
    return bool(vectors) and all(np.ptp(vector) == 0 for vector in vectors)


def check_labels(labels: Sequence[str], classes: int) -> None:
    """Checks that there is one line of text for each class.

    Args:
        labels: Class names.
        classes: Number of classes.

    Raises:
        UserError: The number differs, or a label is no single line of text.
    """
    if len(labels) != classes:
        raise UserError(
            f"{len(labels)} labels for {classes} classes; give one label per class, in order"
        )
    for label in labels:
        if not isinstance(label, str) or label.splitlines() != [label]:
            raise UserError(f"label {label!r} is not one line of text; give each class a name")
