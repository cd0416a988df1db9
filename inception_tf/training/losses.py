# SPDX-License-Identifier: Apache-2.0
"""The loss of each classifier, from logits: cross-entropy or focal, with a weight for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from inception_tf.config import TrainingConfig
from inception_tf.errors import unknown
from inception_tf.ranges import AT_LEAST_0

__all__ = ["BALANCED", "ClassWeighted", "class_weights", "make_loss"]

BALANCED = "balanced"


@keras.saving.register_keras_serializable(package="inception_tf")
class ClassWeighted(keras.losses.Loss):
    """A loss whose images count as much as their classes do; an image of mixed classes, in proportion.

    The mean is over the number of images and not over their weights, as in `fit(class_weight=...)` of Keras.

    Args:
        loss: A Keras loss of one-hot classes (N, K) and logits (N, K).
        weights: K numbers, at least 0.
        name: As in Keras.
    """

    def __init__(
        self, loss: keras.losses.Loss, weights: Sequence[float], name: str = "class_weighted"
    ):
        super().__init__(name=name)
        self.loss, self.weights = loss, [float(weight) for weight in weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        each = self.loss.call(y_true, y_pred)
        weights = keras.ops.convert_to_tensor(self.weights, dtype=each.dtype)
        return each * keras.ops.sum(keras.ops.cast(y_true, each.dtype) * weights, axis=-1)

    def get_config(self) -> dict[str, Any]:
        inner = keras.losses.serialize(self.loss)
        return {"loss": inner, "weights": self.weights, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClassWeighted:
        """Restores the loss with the one inside it, as Keras does.

        Args:
            config: From `get_config`.

        Returns:
            The loss.
        """
        return cls(**(config | {"loss": keras.losses.deserialize(config["loss"])}))


def make_loss(config: TrainingConfig, weights: Sequence[float] | None) -> keras.losses.Loss:
    """Makes the loss of one classifier.

    Args:
        config: The training section.
        weights: K numbers of `class_weights`; None: all 1.

    Returns:
        A Keras loss of one-hot classes (N, K) and logits (N, K).  Focal loss is Keras', of Lin et al. 2017, with
        alpha 1: the classes' weights take its place.
    """
    common: dict[str, Any] = {"from_logits": True, "label_smoothing": config.label_smoothing}
    if config.focal_gamma:
        loss = keras.losses.CategoricalFocalCrossentropy(1.0, config.focal_gamma, **common)
    else:
        loss = keras.losses.CategoricalCrossentropy(**common)
    return loss if weights is None else ClassWeighted(loss, weights)


def class_weights(
    chosen: str | dict | None, classes: np.ndarray, labels: Sequence[str]
) -> tuple[float, ...] | None:
    """Computes the weight of each class.

    Args:
        chosen: `BALANCED`, {name: weight} with 1 for classes that are not named, or None.
        classes: (N,) integers, the classes of the training images.
        labels: K class names.

    Returns:
        K numbers, or None.  Balanced: N / (K * images of the class), as scikit-learn's, so that the mean over the
        training images is 1; a class without images has 0.

    Raises:
        UserError: A name that no class has, the nearest is suggested; a negative weight; another word.
    """
    if chosen is None:
        return None
    if isinstance(chosen, dict):
        for name, weight in chosen.items():
            if str(name) not in labels:
                raise unknown("class of training.class_weights", str(name), labels)
            AT_LEAST_0.check(f"training.class_weights of '{name}'", weight)
        chosen = {str(name): weight for name, weight in chosen.items()}  # YAML reads 3 as a number
        return tuple(float(chosen.get(label, 1.0)) for label in labels)
    if chosen != BALANCED:
        raise unknown("training.class_weights", chosen, [BALANCED])
    counts = np.bincount(classes, minlength=len(labels))
    weights = len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return tuple(np.where(counts, weights, 0.0).tolist())
