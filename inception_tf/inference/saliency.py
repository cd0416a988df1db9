# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM: where in an image a network sees a class."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from inception_tf.errors import UserError, unknown
from inception_tf.host.backend import needs_tensorflow_backend
from inception_tf.nn.network import LOGITS, endpoints

__all__ = ["choose_endpoint", "grad_cam", "last_feature_map"]


def last_feature_map(model: keras.Model) -> str:
    """Finds the last endpoint that still has places: the last mixed block, or what a network has in its place.

    Args:
        model: A network of this package.

    Returns:
        Its name.
    """
    maps = [name for name, tensor in endpoints(model).items() if _has_places(tensor)]
    return maps[-1]


def choose_endpoint(model: keras.Model, endpoint: str | None = None) -> str:
    """Finds the endpoint whose maps `grad_cam` shows, before the images are read.

    Args:
        model: A network of this package with its classifier.
        endpoint: A name of `endpoints(model)` with height and width; None: `last_feature_map(model)`.

    Returns:
        Its name.

    Raises:
        UserError: There is no such endpoint, it has no height and width, the network has no classifier, or Keras
            does not run on TensorFlow.
    """
    needs_tensorflow_backend("Grad-CAM")
    ends = endpoints(model)
    if LOGITS not in ends:
        raise UserError(f"'{model.name}' has no classifier, and so no class to explain")
    endpoint = endpoint or last_feature_map(model)
    if endpoint not in ends:
        raise unknown("endpoint", endpoint, ends)
    if not _has_places(ends[endpoint]):
        raise UserError(
            f"endpoint '{endpoint}' has no height and width to show; take one such as"
            f" '{last_feature_map(model)}'"
        )
    return endpoint


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    classes: Sequence[int] | None = None,
    endpoint: str | None = None,
) -> np.ndarray:
    """Computes where each image speaks for a class.

    The maps of an endpoint are added, each weighted with the mean of the gradient of the class' logit with respect
    to it; what speaks against the class is cut off.  Selvaraju et al. 2017, equations 1 and 2.

    Args:
        model: A network of this package with its classifier.
        images: (N, H, W, 3) float32, prepared as the network takes them.
        classes: N class numbers; None: the class with the highest probability of each image.
        endpoint: A name of `endpoints(model)` with height and width; None: `last_feature_map(model)`.

    Returns:
        (N, H, W) float32 in [0, 1]: 1 at the strongest place of each image, all 0 where nothing speaks for the class.

    Raises:
        UserError: There is no such endpoint, it has no height and width, the network has no classifier, or Keras
            does not run on TensorFlow.

    Example:
        heat = grad_cam(model, images)[0]
    """
    endpoint = choose_endpoint(model, endpoint)
    ends = endpoints(model)
    import tensorflow as tf

    network = keras.Model(model.input, [ends[endpoint], ends[LOGITS]])
    with tf.GradientTape() as tape:
        maps, logits = network(tf.constant(images), training=False)
        chosen = tf.argmax(logits, axis=1) if classes is None else tf.constant(classes, tf.int64)
        scores = tf.gather(logits, chosen, axis=1, batch_dims=1)
    gradients = tape.gradient(scores, maps)
    axes = (2, 3) if keras.config.image_data_format() == "channels_first" else (1, 2)
    weights = tf.reduce_mean(gradients, axis=axes, keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(maps * weights, axis=({1, 2, 3} - {*axes}).pop()))
    heat = tf.image.resize(tf.cast(heat, tf.float32)[..., tf.newaxis], images.shape[1:3])[..., 0]
    highest = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(heat, highest).numpy()


def _has_places(tensor: keras.KerasTensor) -> bool:
    """Whether a feature map has more than one place, or as many as the image gives it."""
    places = (
        tensor.shape[1:3]
        if keras.config.image_data_format() == "channels_last"
        else tensor.shape[2:4]
    )
    return len(tensor.shape) == 4 and tuple(places) != (1, 1)
