# SPDX-License-Identifier: Apache-2.0
"""The loss of each classifier, from logits: cross-entropy or focal, with a weight for each class, of one class or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from inception_tf.config import TrainingConfig
from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError, unknown
from inception_tf.ranges import AT_LEAST_0

__all__ = ["BALANCED", "ClassWeighted", "PositiveWeighted", "class_weights", "make_loss"]

BALANCED = "balanced"


class _Weighted(keras.losses.Loss):
    """A loss with a number for each class."""

    def __init__(self, loss: keras.losses.Loss, weights: Sequence[float], name: str | None = None):
        super().__init__(name=name)
        self.loss, self.weights = loss, [float(weight) for weight in weights]

    def get_config(self) -> dict[str, Any]:
        inner = keras.losses.serialize(self.loss)
        return {"loss": inner, "weights": self.weights, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> _Weighted:
        """Restores the loss with the one inside it, as Keras does.

        Args:
            config: From `get_config`.

        Returns:
            The loss.
        """
        return cls(**(config | {"loss": keras.losses.deserialize(config["loss"])}))


@keras.saving.register_keras_serializable(package="inception_tf")
class ClassWeighted(_Weighted):
    """A loss whose images count as much as their classes do; an image of mixed classes, in proportion.

    The mean is over the number of images and not over their weights, as in `fit(class_weight=...)` of Keras.

    Args:
        loss: A Keras loss of one-hot classes (N, K) and logits (N, K).
        weights: K numbers, at least 0.
        name: As in Keras.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Computes the loss of each image.

        Args:
            y_true: (N, K) targets.
            y_pred: (N, K) logits.

        Returns:
            (N,) losses.
        """
        each = self.loss.call(y_true, y_pred)
        weights = keras.ops.convert_to_tensor(self.weights, dtype=each.dtype)
        return each * keras.ops.sum(keras.ops.cast(y_true, each.dtype) * weights, axis=-1)


@keras.saving.register_keras_serializable(package="inception_tf")
class PositiveWeighted(_Weighted):
    """A loss of independent classes, in which a class counts more where an image shows it.

    It is `pos_weight` of torch's `BCEWithLogitsLoss`: the term of a class is multiplied by its weight in images that show
    it, and by 1 in others; of mixed images, in proportion.

    Args:
        loss: A Keras loss of multi-label classes (N, K) and logits (N, K), the mean over the classes.
        weights: K numbers, at least 0.
        name: As in Keras.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Computes the loss of each image.

        Args:
            y_true: (N, K) targets.
            y_pred: (N, K) logits.

        Returns:
            (N,) losses.
        """
        # The mean over one class is that class' term.
        each = self.loss.call(y_true[..., None], y_pred[..., None])
        shown = keras.ops.cast(y_true, each.dtype)
        weights = keras.ops.convert_to_tensor(self.weights, dtype=each.dtype)
        return keras.ops.mean(each * (1 + shown * (weights - 1)), axis=-1)


def make_loss(
    config: TrainingConfig, weights: Sequence[float] | None, *, multi_label: bool = False
) -> keras.losses.Loss:
    """Makes the loss of one classifier.

    Args:
        config: The training section.
        weights: K numbers of `class_weights`; None: all 1.
        multi_label: The classes are independent, and an image shows any number of them.

    Returns:
        A Keras loss of targets (N, K) and logits (N, K).  Focal loss is Keras', of Lin et al. 2017, with alpha 1: the
        classes' weights take its place.  Of multi-label data the mean over the classes of binary cross-entropy, or
        of its focal form; label smoothing of 0.1 makes 0.95 of 1 and 0.05 of 0.
    """
    common: dict[str, Any] = {"from_logits": True, "label_smoothing": config.label_smoothing}
    gamma, losses = config.focal_gamma, keras.losses
    loss: keras.losses.Loss
    if multi_label:
        loss = (
            losses.BinaryFocalCrossentropy(gamma=gamma, **common)
            if gamma
            else losses.BinaryCrossentropy(**common)
        )
        return loss if weights is None else PositiveWeighted(loss, weights)
    loss = (
        losses.CategoricalFocalCrossentropy(1.0, gamma, **common)
        if gamma
        else losses.CategoricalCrossentropy(**common)
    )
    return loss if weights is None else ClassWeighted(loss, weights)


def class_weights(
    chosen: str | dict | None, split: Split, labels: Sequence[str]
) -> tuple[float, ...] | None:
    """Computes the weight of each class.

    Args:
        chosen: `BALANCED`, {name: weight} with 1 for classes that are not named, or None.
        split: The training images.
        labels: K class names.

    Returns:
        K numbers, or None.  Balanced: N / (K * images of the class), as scikit-learn's, so that the mean over the
        training images is 1; a class without images has 0.  Of multi-label images, the number that do not show the class
        over the number that do, so that both count the same; a class that none shows has 1.

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
        weights = tuple(float(chosen.get(label, 1.0)) for label in labels)
        if not any(weights):
            raise UserError(
                "training.class_weights are 0 of all classes, so that no weight would change"
            )
        return weights
    if chosen != BALANCED:
        raise unknown("training.class_weights", chosen, [BALANCED])
    counts = split.class_counts(len(labels))
    if split.targets is not None:
        balanced = (len(split) - counts) / np.maximum(counts, 1)
        return tuple(np.where(counts, balanced, 1.0).tolist())
    balanced = len(split) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return tuple(np.where(counts, balanced, 0.0).tolist())
