# SPDX-License-Identifier: Apache-2.0
"""What a comparison of two sets of images gives: the metrics, and all that they depend on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from inception_tf.generative.conventions import Convention
from inception_tf.generative.frechet import Extrapolation
from inception_tf.generative.metrics import InceptionScore, KernelDistance, PrecisionRecall
from inception_tf.generative.statistics import FeatureStatistics

__all__ = ["Comparison", "PrecisionError", "SetReport"]


@dataclass(frozen=True)
class SetReport:
    """What was read of one set."""

    name: str
    images: int | None  # that were read; None: statistics that do not say it
    skipped: dict[str, str]  # name → why an image could not be read
    unread: dict[str, str]  # path → why a file is no image
    kinds: dict[str, int]  # key of `kinds.RULES` → images that the tools decode to other pixels
    notes: tuple[str, ...]
    kept: bool = False  # the features came from the cache
    seconds: float = 0.0  # of the features

    @property
    def images_per_second(self) -> float | None:
        """Images read, resized and passed through the network per second; None where none were."""
        return self.images / self.seconds if self.images and self.seconds else None


@dataclass(frozen=True)
class PrecisionError:
    """What a precision below float32 does to FID, measured on some images of the sets."""

    images: int  # of each set
    sets: int  # 1 where the other set is statistics from a file
    fid_float32: float
    fid: float
    fid_of_all: float  # of all images, in the lower precision

    @property
    def absolute(self) -> float:
        """The distance between both."""
        return abs(self.fid - self.fid_float32)

    @property
    def relative(self) -> float:
        """That distance as a fraction of FID of all images.

        FID of few images is mostly the bias of their number, of which the error is a small fraction.
        """
        return self.absolute / max(abs(self.fid_of_all), 1e-12)


@dataclass(frozen=True)
class Comparison:
    """The metrics of two sets, and all that they depend on."""

    convention: Convention
    tap: str
    weights: str | None  # as the user named them; None where only statistics were compared
    weights_digest: str | None
    backend: str
    precision: str
    first: SetReport
    second: SetReport | None
    fid: float | None = None
    fid_error: float | None = None  # standard error, from the choice of the first set's images
    fid_infinity: Extrapolation | None = None
    inception_score: InceptionScore | None = None  # of the first set
    kid: KernelDistance | None = None
    prc: PrecisionRecall | None = None
    precision_error: PrecisionError | None = None
    warnings: tuple[str, ...] = ()
    statistics: FeatureStatistics | None = None  # of the first set

    def as_json(self) -> dict[str, Any]:
        """All values and settings as JSON has them.

        Returns:
            Key → number, text, list or object; metrics that were not computed are missing.
        """
        found: dict[str, Any] = {
            "like": self.convention.name,
            "tool_version": self.convention.version,
            "features": self.tap,
            "weights": self.weights,
            "weights_sha256": self.weights_digest,
            "backend": self.backend,
            "precision": self.precision,
            "resize": self.convention.resize.words,
            "scale": self.convention.scale,
        }
        for name, one in (("first", self.first), ("second", self.second)):
            if one is not None:
                found[name] = dataclasses.asdict(one) | {"images_per_second": one.images_per_second}
        for key, value in (("fid", self.fid), ("fid_standard_error", self.fid_error)):
            if value is not None:
                found[key] = value
        for key, part in (
            ("fid_infinity", self.fid_infinity),
            ("inception_score", self.inception_score),
            ("kid", self.kid),
            ("precision_recall", self.prc),
        ):
            if part is not None:
                found[key] = dataclasses.asdict(part)
        if self.precision_error is not None:
            found["precision_error"] = dataclasses.asdict(self.precision_error) | {
                "absolute": self.precision_error.absolute,
                "relative": self.precision_error.relative,
            }
        return found | {"warnings": list(self.warnings)}
