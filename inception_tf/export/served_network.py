# SPDX-License-Identifier: Apache-2.0
"""The part of a Keras model that is served: from the image to the probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from inception_tf.data.preprocessing import SCALES, Preprocessing
from inception_tf.errors import UserError
from inception_tf.evaluation.features import feature_model

__all__ = ["check_labels", "check_same", "is_untrained", "served_network", "with_features"]

FOLDING_TOLERANCE = 1e-4  # of the largest output of an image


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
    return keras.Model(model.inputs[0], output, name=model.name)


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
    return keras.Model(network.inputs[0], outputs, name=network.name)


def check_same(before: keras.Model, after: keras.Model, preprocessing: Preprocessing) -> None:
    """Checks on random images that an optimized network gives what the network gives.

    Args:
        before: (N, size, size, 3) floats as `preprocessing` scales them → any outputs.
        after: The same in float32, optimized.
        preprocessing: Size and scale of the images.

    Raises:
        UserError: An output differs by more than `FOLDING_TOLERANCE` of the largest one of its image.
    """
    size, scale = preprocessing.size, SCALES[preprocessing.scale]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3))
    # Noise and a smooth image: of noise alone, every average is the same.
    pixels[1] = np.linspace(0, 255, size)[:, np.newaxis, np.newaxis] * np.array([1, 0.5, 0.2])
    images = ((pixels - scale.mean) / scale.deviation).astype("float32")
    outputs = [keras.tree.flatten(model(images, training=False)) for model in (before, after)]
    for pair in zip(*outputs, strict=True):
        theirs, ours = (keras.ops.convert_to_numpy(one) for one in pair)
        apart = np.abs(ours.astype("float64") - theirs).max(axis=-1)
        largest = np.abs(theirs.astype("float64")).max(axis=-1)
        worst = float((apart / np.maximum(largest, 1e-30)).max())
        if not worst <= FOLDING_TOLERANCE:  # NaN is no equality
            raise UserError(
                f"'{before.name}' with batch normalization folded differs by {worst:.1e} of its largest output on random"
                f" images, more than {FOLDING_TOLERANCE:.0e}; export it as it is: --no-fold"
            )


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
