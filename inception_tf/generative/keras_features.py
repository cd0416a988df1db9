# SPDX-License-Identifier: Apache-2.0
"""Features of Inception V3 as a function of tensors, for metrics inside of `fit`."""

from __future__ import annotations

from typing import Any

import keras

from inception_tf.errors import UserError, unknown
from inception_tf.evaluation.features import feature_model
from inception_tf.generative.conventions import TORCH_FIDELITY, find_convention
from inception_tf.generative.network import TAPS, OpenedWeights, open_weights_for_features
from inception_tf.generative.resizing import ResizeLikeTool
from inception_tf.generative.statistics import Notes
from inception_tf.host.backend import needs_tensorflow_backend
from inception_tf.inference.optimize import optimize_for_inference

__all__ = ["InceptionFeatures"]

LEVELS = 255.0


class InceptionFeatures:
    """A function of images, a tensor (N, H, W, 3), to features (N, D), resized and scaled as a tool does.

    Images of other types than uint8 are rounded to its levels, as an image file has them; values beyond the range are
    cut off.

    Args:
        weights: "fid_2015", a weights file of Inception V3, or weights that are open.
        tap: "64", "192", "768" or "2048".
        like: The tool, a name of `CONVENTIONS`.
        value_range: The range of images that are not uint8, such as (-1, 1).

    Raises:
        UserError: A name is unknown, the weights cannot be read, or Keras' backend is not TensorFlow.

    Example:

        features = InceptionFeatures("fid_2015", value_range=(-1, 1))
        metric = FrechetInceptionDistance(features, features.width)
    """

    def __init__(
        self,
        weights: str | OpenedWeights = "fid_2015",
        *,
        tap: str = "2048",
        like: str = TORCH_FIDELITY,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        needs_tensorflow_backend("InceptionFeatures")
        if tap not in TAPS:
            raise unknown("tap", tap, TAPS)
        if value_range is not None and value_range[0] >= value_range[1]:
            raise UserError(f"value_range must be (lowest, highest), got {value_range!r}")
        self._step = ResizeLikeTool(find_convention(like).resize)
        opened = open_weights_for_features(weights) if isinstance(weights, str) else weights
        self._network = optimize_for_inference(feature_model(opened.model, TAPS[tap]), "float32")
        self.value_range = value_range
        self.width: int = self._network.output_shape[-1]
        self.notes = Notes(tap, like, opened.digest)

    def __call__(self, images: Any) -> Any:
        """Computes the features of a batch.

        Args:
            images: (N, H, W, 3), uint8 or in the range.

        Returns:
            (N, D) float32.

        Raises:
            UserError: The images are not uint8 and their range is unknown.
        """
        ops = keras.ops
        images = ops.convert_to_tensor(images)
        if keras.backend.standardize_dtype(images.dtype) != "uint8":
            if self.value_range is None:
                raise UserError(
                    "images that are not uint8 need their range: InceptionFeatures(value_range=(-1, 1))"
                )
            low, high = self.value_range
            scaled = (ops.cast(images, "float32") - low) * (LEVELS / (high - low))
            images = ops.cast(ops.clip(ops.round(scaled), 0.0, LEVELS), "uint8")
        return self._network(self._step(images), training=False)
