# SPDX-License-Identifier: Apache-2.0
"""FID of a generator while Keras' `fit` trains it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.generative.conventions import TORCH_FIDELITY, find_convention
from inception_tf.generative.extract import Wanted, extract_features
from inception_tf.generative.frechet import FEW_IMAGES, frechet_distance, is_singular
from inception_tf.generative.images import ImagesLike, open_images
from inception_tf.generative.network import (
    FeatureNetwork,
    OpenedWeights,
    open_weights_for_features,
)
from inception_tf.generative.resizing import ResizeLikeTool
from inception_tf.generative.statistics import FeatureStatistics, Notes

__all__ = ["FID"]

STATISTICS = ".npz"
log = logging.getLogger("inception_tf")


class FID(keras.callbacks.Callback):
    """Computes FID of freshly generated images after every few epochs, as `logs["fid"]`.

    It is computed as `inception-tf fid` does, and other callbacks can use it: `ModelCheckpoint(monitor="fid",
    mode="min")`, `EarlyStopping`, `CSVLogger`, if they stand after this one.  In the epochs between it is NaN, so that
    tables keep their columns.

    Args:
        reference: The real images: a `.npz` of statistics, `FeatureStatistics`, or images as `open_images` takes them.
        generate: A function of a number of images to that many, (N, H, W, 3); None: the model's method `generate`.
        every: int. Epochs between two computations.
        images: int. How many are generated each time; below 10,000 the number is only good to compare epochs.
        value_range: The range of generated images that are not uint8: (0, 1), (-1, 1) or (0, 255).
        batch_size: int. Images that are generated and pass through the network together.
        weights: "fid_2015", a weights file of Inception V3, or weights that are open.
        tap: "64", "192", "768" or "2048".
        like: The tool whose resize and definition are used, a name of `CONVENTIONS`.
        allow_singular: Also compute FID of no more images than features.
        name: The key in `logs`.

    Raises:
        UserError: A value is not allowed, or the reference cannot be read.

    Example:

        model.fit(data, epochs=50, callbacks=[FID("train.npz", every=5, value_range=(-1, 1))])
    """

    def __init__(
        self,
        reference: FeatureStatistics | ImagesLike,
        generate: Callable[[int], Any] | None = None,
        *,
        every: int = 1,
        images: int = FEW_IMAGES,
        value_range: tuple[float, float] | None = None,
        batch_size: int = 32,
        weights: str | OpenedWeights = "fid_2015",
        tap: str = "2048",
        like: str = TORCH_FIDELITY,
        allow_singular: bool = False,
        name: str = "fid",
    ) -> None:
        super().__init__()
        for what, number, least in (
            ("every", every, 1),
            ("batch_size", batch_size, 1),
            ("images", images, 2),
        ):
            if number < least:
                raise UserError(f"{what} must be at least {least}, got {number}")
        self.generate, self.every, self.images = generate, every, images
        self.value_range, self.batch_size, self.name = value_range, batch_size, name
        self.tap, self.allow_singular = tap, allow_singular
        self.convention = find_convention(like)
        self._step = ResizeLikeTool(self.convention.resize)
        opened = open_weights_for_features(weights) if isinstance(weights, str) else weights
        self._network: FeatureNetwork = opened.network([tap], batch_size=batch_size)
        self._notes = Notes(tap, like, opened.digest)
        self.reference = self._statistics_of(reference)
        self._check_reference()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that there is something to generate images with."""
        if self.generate is None and not callable(getattr(self.model, "generate", None)):
            raise UserError(
                "the model has no method generate(count) that gives images; give the callback a function:"
                " FID(reference, generate)"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Computes FID where it is this epoch's turn."""
        if logs is not None:
            logs[self.name] = self.compute() if (epoch + 1) % self.every == 0 else np.nan

    def compute(self) -> float:
        """FID of newly generated images.

        Returns:
            The distance to the reference.

        Raises:
            UserError: The images are not as stated, or the covariance is singular and that is not allowed.
        """
        generated = open_images(self._generated, value_range=self.value_range, count=self.images)
        found = self._extract(generated)
        if found.count != self.images:
            raise UserError(
                f"generate gave {found.count:,} images of the {self.images:,} that were asked for"
            )
        return frechet_distance(
            found, self.reference, form=self.convention.form, allow_singular=self.allow_singular
        )

    def _generated(self) -> Iterator[np.ndarray]:
        generate = self.generate or self.model.generate
        for start in range(0, self.images, self.batch_size):
            count = min(self.batch_size, self.images - start)
            images = keras.ops.convert_to_numpy(generate(count))
            if len(images) != count:
                raise UserError(f"generate({count}) gave {len(images)} images")
            yield images

    def _statistics_of(self, reference: FeatureStatistics | ImagesLike) -> FeatureStatistics:
        if isinstance(reference, FeatureStatistics):
            return reference
        if isinstance(reference, str | os.PathLike) and os.fspath(reference).endswith(STATISTICS):
            return FeatureStatistics.read(reference)
        return self._extract(open_images(reference, value_range=self.value_range))

    def _extract(self, images: Any) -> FeatureStatistics:
        found = extract_features(
            images, self._network, self._step, Wanted((self.tap,), ()), self._notes
        )
        if found.skipped:
            log.warning("%d images cannot be read and are not part of FID", len(found.skipped))
        return found.statistics[self.tap]

    def _check_reference(self) -> None:
        width = self._network.widths[self.tap]
        if self.reference.features != width:
            raise UserError(
                f"the reference has {self.reference.features} features, and tap {self.tap} has {width}; take both"
                " from one tap"
            )
        for difference in self._notes.differences(self.reference.notes):
            log.warning("FID compares what is not comparable: %s (of the reference)", difference)
        if self.allow_singular:
            return
        if is_singular(self.reference) or self.images <= width:
            raise UserError(
                f"FID of {width:,} features needs more images than that, of the reference and generated (images="
                f"{self.images:,}); take a tap with fewer features, or set allow_singular=True"
            )
