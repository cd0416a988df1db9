# SPDX-License-Identifier: Apache-2.0
"""Two sets of images compared by FID and its relatives, in the way of one tool."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.errors import UserError, printable
from inception_tf.generative.conventions import TORCH_FIDELITY, find_convention
from inception_tf.generative.frechet import (
    frechet_distance,
    frechet_distance_to_infinity,
    frechet_standard_error,
)
from inception_tf.generative.metrics import inception_score, kernel_distance, precision_recall
from inception_tf.generative.remarks import image_warnings, note_warnings
from inception_tf.generative.results import Comparison, PrecisionError
from inception_tf.generative.settings import TAPS, Settings
from inception_tf.generative.sides import Side
from inception_tf.generative.statistics import FeatureStatistics, Notes
from inception_tf.host.progress import progress_bar

if TYPE_CHECKING:
    from inception_tf.generative.extract import Wanted
    from inception_tf.generative.images import ImagesLike
    from inception_tf.generative.network import FeatureNetwork, OpenedWeights

__all__ = ["compute", "fid"]

STATISTICS = ".npz"
# Part of the key of kept features: counted up when the same images and weights get other features.
VERSION = 1
CHECKED = 256  # images of each set that float32 and a lower precision are compared on
CALIBRATED = 128  # images for the ranges of int8


def fid(first: ImagesLike, second: ImagesLike, **options: Any) -> float:
    """The Fréchet Inception distance of two sets of images.

    Args:
        first: The generated images, as `compute` takes them.
        second: The real images.
        **options: Of `compute`, but `metrics`.

    Returns:
        FID.

    Raises:
        UserError: As `compute` raises it.

    Example:

        fid("samples/", "train.npz", like="pytorch-fid")

    Source: Heusel et al. 2017, arXiv 1706.08500.
    """
    found = compute(first, second, metrics=("fid",), **options).fid
    assert found is not None
    return found


def compute(
    first: ImagesLike,
    second: ImagesLike | None = None,
    *,
    metrics: Sequence[str] = ("fid",),
    features: int | str = "2048",
    like: str = TORCH_FIDELITY,
    weights: str = "fid_2015",
    batch_size: int = 32,
    backend: str = "tensorflow",
    precision: str = "float32",
    infinity: bool = False,
    allow_singular: bool = False,
    subset_size: int | None = None,
    cache: bool = True,
    opened: OpenedWeights | None = None,
    **reading: Any,
) -> Comparison:
    """Compares two sets of images by the features of Inception V3.

    Memory does not depend on the number of images, unless a metric needs all features: IS, KID, precision and recall,
    and `infinity`.

    Args:
        first: The generated images, as `images.open_images` takes them, or a `.npz` file of statistics, for FID.
        second: The real images, likewise; None where only the inception score, or only statistics, are wanted.
        metrics: "fid", "is", "kid", "prc"; the inception score is that of the first set.
        features: The tap: 64, 192, 768 or 2048.
        like: The tool whose resize, scale and definitions are used: a key of `CONVENTIONS`.
        weights: "fid_2015", the network of 2015, or a file, as `network.open_weights_for_features` takes it.
        batch_size: Images that pass through the network together.
        backend: "tensorflow"; "openvino"; or "keras", which is the backend of KERAS_BACKEND.
        precision: "float32", "bfloat16" or "int8"; below float32 the error of FID is measured.
        infinity: Also the standard error of FID, and FID for infinitely many images.
        allow_singular: Compute FID where there are no more images than features, too.
        subset_size: Images of a subset of KID; None: the tool's.
        cache: Keep features in the cache folder by the content of the images, and use them.
        opened: The weights, where they are open already.
        **reading: `value_range`, `count`, `key` and `bits` of `open_images`.

    Returns:
        The metrics, with what was read and what is to be said of them.

    Raises:
        UserError: There are too few images, a setting is unknown, a tool has no such metric, or the weights cannot be
            read.

    Example:

        found = compute("samples/", "train/", metrics=("fid", "kid"), like="clean-fid")
        found.fid, found.kid.mean
    """
    chosen = Settings(
        metrics=tuple(metrics),
        tap=str(features),
        convention=find_convention(like),
        weights=weights,
        batch_size=batch_size,
        backend=backend,
        precision=precision,
        infinity=infinity,
        allow_singular=allow_singular,
        subset_size=subset_size,
        cache=cache,
    )
    chosen.check(second is not None)
    run = _Run(chosen, opened)
    one = run.side(first, reading, infinity)
    return run.compare(one, None if second is None else run.side(second, reading))


class _Run:
    """The weights, opened when they are first needed, and the networks that were compiled of them."""

    def __init__(self, settings: Settings, opened: OpenedWeights | None) -> None:
        self.settings = settings
        self.given = opened
        self.networks: dict[tuple[tuple[str, ...], str], FeatureNetwork] = {}
        self.calibration: list[np.ndarray] | None = None

    @cached_property
    def opened(self) -> OpenedWeights:
        if self.given is not None:
            return self.given
        from inception_tf.generative.network import open_weights_for_features

        return open_weights_for_features(self.settings.weights)

    @cached_property
    def step(self) -> Any:
        from inception_tf.generative.resizing import ResizeLikeTool

        return ResizeLikeTool(self.settings.convention.resize)

    def side(
        self, source: ImagesLike, reading: dict[str, Any], needs_features: bool = False
    ) -> Side:
        if isinstance(source, str | os.PathLike) and os.fspath(source).endswith(STATISTICS):
            if self.settings.metrics != ("fid",) or needs_features:
                raise UserError(
                    f"{printable(os.fspath(source))} has a mean and a covariance, from which FID alone follows;"
                    " give the images for other metrics"
                )
            statistics = FeatureStatistics.read(source)
            return Side(os.fspath(source), statistics)
        from inception_tf.generative.images import open_images

        images = open_images(source, **reading)
        return Side(images.name, images=images)

    def compare(self, first: Side, second: Side | None) -> Comparison:
        settings = self.settings
        sides = [first] if second is None else [first, second]
        with_images = [side for side in sides if side.images is not None]
        warnings: list[str] = []
        if with_images:
            # Weights that are missing, and too few images, are known before any image is read.
            from inception_tf.generative.network import check_keras

            check_keras(settings.backend)
            self._check_counts(sides, self.opened)
            warnings += self._look_at(first, second)
            for side in with_images:
                self._extract(side, settings.wanted(side is first))
        note = self.opened.note if with_images else None
        counts = [(side.report().images, len(side.report().skipped)) for side in sides]
        warnings += image_warnings([side.name for side in sides], counts, note, settings.metrics)
        if second is not None and "fid" in settings.metrics:
            warnings += note_warnings(
                (first.name, second.name),
                (first.of_tap(settings.tap).notes, second.of_tap(settings.tap).notes),
            )
        results = self._metrics(first, second)
        lower = None
        if settings.precision != "float32" and "fid" in results and with_images:
            lower = self._precision_error(sides, results["fid"])
        statistics = None
        if "fid" in settings.metrics:
            statistics = first.of_tap(settings.tap)
        # Of statistics alone the tap is what they say, or the number of their features.
        stated = first.statistics
        tap = (
            settings.tap
            if with_images or stated is None
            else stated.notes.tap or str(stated.features)
        )
        return Comparison(
            convention=settings.convention,
            tap=tap,
            weights=settings.weights if with_images else None,
            weights_digest=self.opened.digest if with_images else self._noted(sides),
            backend=settings.backend,
            precision=settings.precision,
            first=first.report(),
            second=second.report() if second is not None else None,
            precision_error=lower,
            warnings=tuple(warnings),
            statistics=statistics,
            **results,
        )

    def _noted(self, sides: list[Side]) -> str | None:
        notes = {side.statistics.notes.weights for side in sides if side.statistics is not None}
        return notes.pop() if len(notes) == 1 else None

    def _look_at(self, first: Side, second: Side | None) -> list[str]:
        """Sums and kinds of the images, and what both sets share."""
        from inception_tf.generative.survey import (
            sentence_for_shared,
            shared_images,
            survey_images,
        )

        for side in (first, second):
            if side is not None and side.images is not None:
                with progress_bar(side.images.count, f"{side.name}, sums", leave=False) as bar:
                    side.survey = survey_images(side.images, bar.update)
        if second is None or first.images is None or second.images is None:
            return []
        shared = shared_images(first.images, second.images, (first.survey, second.survey))
        if shared is None:
            return ["whether the sets share images was not looked for: not both are files"]
        if not shared.count:
            return []
        return [sentence_for_shared(shared, (first.name, second.name))]

    def _check_counts(self, sides: list[Side], opened: OpenedWeights) -> None:
        """Refuses what would be refused at the end, before the network runs."""
        settings = self.settings
        if "fid" not in settings.metrics:
            return
        width = opened.widths([settings.tap])[settings.tap]
        for side in sides:
            if side.statistics is not None and side.statistics.features != width:
                raise UserError(
                    f"{printable(side.name)} has statistics of {side.statistics.features:,} features, and the tap"
                    f" {settings.tap} has {width:,}: take --features {side.statistics.features}, or other statistics"
                )
            count = side.images.count if side.images is not None else None
            if (
                count is not None
                and count <= width
                and not settings.allow_singular
                and len(sides) > 1
            ):
                enough = [tap for tap in TAPS if opened.widths([tap])[tap] < count]
                fewer = f" take --features {' or '.join(enough)}," if enough else ""
                raise UserError(
                    f"{printable(side.name)} has {count:,} images, and FID of {width:,} features needs more than"
                    f" that: their covariance is singular; give at least {width + 1:,} images,{fewer}"
                    " or --allow-singular, for a distance that depends on the number of images"
                )

    def _extract(self, side: Side, wanted: Wanted) -> None:
        from inception_tf.generative.extract import extract_features, read_kept, write_kept

        assert side.images is not None
        settings = self.settings
        key = self._key(side) if settings.cache and side.survey is not None else None
        if settings.precision == "int8":
            key = None  # depends on the images of its calibration
        found = read_kept(key, side.images, wanted) if key else None
        if found is None:
            notes = Notes(None, settings.convention.name, self.opened.digest)
            network = self._network(wanted.taps, settings.precision, side)
            found = extract_features(side.images, network, self.step, wanted, notes)
            if key:
                write_kept(key, side.images, found)
        side.found = found

    def _key(self, side: Side) -> str:
        assert side.survey is not None
        split = side.images.split if side.images is not None else None
        settings = self.settings
        parts = (
            VERSION,
            side.survey.digest,
            side.survey.encoded,
            split.bits if split is not None else None,
            settings.convention.resize,
            settings.convention.scale,
            settings.convention.name,
            self.opened.digest,
            settings.backend,
            settings.precision,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def _network(
        self, taps: tuple[str, ...], precision: str, side: Side | None = None
    ) -> FeatureNetwork:
        if (taps, precision) not in self.networks:
            if precision == "int8" and self.calibration is None and side is not None:
                self.calibration = self._some(side, CALIBRATED)
            self.networks[taps, precision] = self.opened.network(
                taps,
                batch_size=self.settings.batch_size,
                backend=self.settings.backend,
                precision=precision,
                calibration=self.calibration if precision == "int8" else None,
            )
        return self.networks[taps, precision]

    def _some(self, side: Side, count: int) -> list[np.ndarray]:
        from inception_tf.generative.extract import pixel_batches
        from inception_tf.generative.images import first_images

        assert side.images is not None
        few = first_images(side.images, count)
        return list(pixel_batches(few, self.step, self.settings.batch_size, {}))

    def _precision_error(self, sides: list[Side], of_all: float) -> PrecisionError:
        """FID of some images in float32 and in the lower precision; a file of statistics is as it is in both."""
        tap = self.settings.tap
        batches = [None if side.images is None else self._some(side, CHECKED) for side in sides]
        calibrated = next(side for side in sides if side.images is not None)
        found = []
        for precision in ("float32", self.settings.precision):
            network = self._network((tap,), precision, calibrated)
            pair = []
            for side, pixels in zip(sides, batches, strict=True):
                statistics = FeatureStatistics() if pixels is not None else side.of_tap(tap)
                for one in pixels or ():
                    statistics.update(network(one)[tap])
                pair.append(statistics)
            found.append(frechet_distance(*pair, allow_singular=True))
        counts = [sum(map(len, one)) for one in batches if one is not None]
        exact, rounded = found
        return PrecisionError(min(counts), len(counts), exact, rounded, of_all)

    def _metrics(self, first: Side, second: Side | None) -> dict[str, Any]:
        settings, convention = self.settings, self.settings.convention
        results: dict[str, Any] = {}
        features = [side.found.features if side and side.found else {} for side in (first, second)]
        if "fid" in settings.metrics and second is not None:
            pair = first.of_tap(settings.tap), second.of_tap(settings.tap)
            results["fid"] = frechet_distance(
                *pair, form=convention.form, allow_singular=settings.allow_singular
            )
            if settings.infinity:
                ours = features[0][settings.tap]
                results["fid_error"] = frechet_standard_error(ours, *pair)
                results["fid_infinity"] = frechet_distance_to_infinity(
                    ours, pair[1], allow_singular=settings.allow_singular
                )
        if "is" in settings.metrics:
            rule = convention.inception_score
            (logits,) = [values for tap, values in features[0].items() if tap != settings.tap]
            results["inception_score"] = inception_score(logits, rule)
        if "kid" in settings.metrics and convention.kernel is not None:
            kernel = convention.kernel
            if settings.subset_size is not None:
                kernel = dataclasses.replace(kernel, subset_size=settings.subset_size)
            ours, theirs = (one[settings.tap] for one in features)
            results["kid"] = kernel_distance(ours, theirs, kernel)
        if "prc" in settings.metrics and convention.neighbors is not None:
            generated, real = (one[settings.tap] for one in features)
            if not convention.neighbors.first_is_generated:
                generated, real = real, generated
            results["prc"] = precision_recall(generated, real, convention.neighbors)
        return results
