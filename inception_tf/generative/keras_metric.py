# SPDX-License-Identifier: Apache-2.0
"""FID as a Keras metric, which sums features batch by batch inside of `fit` and `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.generative.frechet import frechet_distance
from inception_tf.generative.statistics import FeatureStatistics

__all__ = ["FrechetInceptionDistance"]

CONSTANT = 1e-13  # variance by squared mean: below the precision of features in float32


class FrechetInceptionDistance(keras.metrics.Metric):
    """The Fréchet distance between the features of real images, `y_true`, and of generated ones, `y_pred`.

    The state is the number of images, the sum of their features and that of their products, in float64: its memory
    does not grow, and replicas' states add up.  The distance takes seconds at 2,048 features; inside of a compiled
    step, where Keras asks for it after each batch, it is NaN, and at the end of the epoch it is a number.

    Args:
        features: A function of a batch of images to features (N, D), such as `InceptionFeatures` or any Keras model.
        width: D.
        reference: Statistics of the real images; None: they are summed from `y_true`.
        form: As for `frechet_distance`.
        allow_singular: Also compute the distance of no more images than features.
        name: As in Keras.

    Raises:
        UserError: Keras' backend has no float64, or the reference has another number of features.

    Example:

        features = InceptionFeatures("fid_2015", value_range=(-1, 1))
        metric = FrechetInceptionDistance(features, 2048)
        for real, generated in batches:
            metric.update_state(real, generated)
        print(float(metric.result()))
    """

    def __init__(
        self,
        features: Callable[[Any], Any],
        width: int,
        *,
        reference: FeatureStatistics | None = None,
        form: str | None = None,
        allow_singular: bool = False,
        name: str = "fid",
    ) -> None:
        super().__init__(name=name, dtype="float32")
        if reference is not None and reference.features != width:
            raise UserError(
                f"the reference has {reference.features} features and the metric {width}; take both from one tap"
            )
        self.features, self.width, self.reference = features, width, reference
        self.form, self.allow_singular = form, allow_singular
        # A Keras metric's variables are not of its dtype where that is stated.
        self.sums = {
            kind: tuple(
                self.add_variable(shape, "zeros", dtype="float64", name=f"{kind}_{part}")
                for part, shape in (("count", ()), ("sum", (width,)), ("products", (width, width)))
            )
            for kind in (("generated",) if reference is not None else ("real", "generated"))
        }
        if keras.ops.convert_to_numpy(self.sums["generated"][0].value).dtype != np.float64:
            raise UserError(
                "FID is summed in float64, which JAX has with the environment variable JAX_ENABLE_X64=1"
            )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of real and a batch of generated images.

        Args:
            y_true: (N, H, W, C) real images; not used where there is a reference.
            y_pred: (M, H, W, C) generated images.
            sample_weight: None; weights are refused.

        Raises:
            UserError: There are weights.
        """
        if sample_weight is not None:
            raise UserError("FrechetInceptionDistance takes no weights: every image counts once")
        images = {"real": y_true, "generated": y_pred}
        ops = keras.ops
        for kind, (count, total, products) in self.sums.items():
            features = ops.cast(self.features(images[kind]), "float64")
            count.assign_add(ops.cast(ops.shape(features)[0], "float64"))
            total.assign_add(ops.sum(features, axis=0))
            # Not `ops.matmul`, whose product of float64 is float32 on torch and JAX.
            products.assign_add(ops.transpose(features) @ features)

    def result(self) -> Any:
        """Computes the distance of the images so far.

        Returns:
            () float32; NaN before there are two images, and inside of a compiled step.

        Raises:
            UserError: There are no more images than features, and that is not allowed.
        """
        if _is_traced(self.sums["generated"][0].value):
            return keras.ops.convert_to_tensor(np.nan, "float32")
        counts = [float(count.value) for count, *_ in self.sums.values()]
        if min(counts) < 2:
            return keras.ops.convert_to_tensor(np.nan, "float32")
        generated = self.statistics("generated")
        real = self.reference or self.statistics("real")
        distance = frechet_distance(
            real, generated, form=self.form, allow_singular=self.allow_singular
        )
        return keras.ops.convert_to_tensor(distance, "float32")

    def statistics(self, kind: str = "generated") -> FeatureStatistics:
        """The statistics of the images so far, to keep in a file or as the reference of another metric.

        Args:
            kind: "real" or "generated".

        Returns:
            Mean and covariance.
        """
        if kind == "real" and self.reference is not None:
            return self.reference
        count, total, products = (
            keras.ops.convert_to_numpy(variable.value) for variable in self.sums[kind]
        )
        mean = total / count
        covariance = (products - count * np.outer(mean, mean)) / (count - 1)
        # Constant features, of which the sums leave rounding, of either sign.
        constant = np.diagonal(covariance) <= CONSTANT * mean**2
        covariance[constant] = covariance[:, constant] = 0
        return FeatureStatistics.of(mean, covariance, int(count))


def _is_traced(value: Any) -> bool:
    """Whether a value has no number yet, because a step is being compiled."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(value, jax.core.Tracer)
    return False
