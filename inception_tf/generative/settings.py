# SPDX-License-Identifier: Apache-2.0
"""What is compared of two sets of images, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inception_tf.errors import UserError, unknown
from inception_tf.generative.conventions import TORCH_FIDELITY, Convention

if TYPE_CHECKING:
    from inception_tf.generative.extract import Wanted

__all__ = ["METRICS", "TAPS", "Settings", "check_backend"]

METRICS = ("fid", "is", "kid", "prc")
TAPS = ("64", "192", "768", "2048")
BACKENDS = ("tensorflow", "openvino", "keras")
PRECISIONS = ("float32", "bfloat16", "int8")


def check_backend(backend: str, precision: str) -> None:
    """Checks what computes the features, and in which precision.

    Args:
        backend: One of `BACKENDS`.
        precision: One of `PRECISIONS`.

    Raises:
        UserError: One is unknown, or they do not go together.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "int8" and backend != "openvino":
        raise UserError("int8 is a precision of OpenVINO: give --backend openvino")


@dataclass(frozen=True)
class Settings:
    """What is compared, and how; `comparison.compute` says what each is."""

    metrics: tuple[str, ...]
    tap: str
    convention: Convention
    weights: str
    batch_size: int
    backend: str
    precision: str
    infinity: bool
    allow_singular: bool
    subset_size: int | None
    cache: bool

    def check(self, has_second: bool) -> None:
        """Checks that the settings are allowed, and fit each other.

        Args:
            has_second: Two sets are compared.

        Raises:
            UserError: They are not.
        """
        if not self.metrics:
            raise UserError(f"there is no metric; give some of {', '.join(METRICS)}")
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)
        if self.tap not in TAPS:
            raise unknown("tap", self.tap, TAPS)
        check_backend(self.backend, self.precision)
        rules = {
            "is": self.convention.inception_score,
            "kid": self.convention.kernel,
            "prc": self.convention.neighbors,
        }
        for metric in self.metrics:
            if metric in rules and rules[metric] is None:
                raise UserError(
                    f"{self.convention.name} has no metric '{metric}'; take another tool, such as {TORCH_FIDELITY}"
                )
        if self.infinity and "fid" not in self.metrics:
            raise UserError("FID for infinitely many images needs the metric 'fid'")
        if has_second and self.metrics == ("is",):
            raise UserError("the inception score is that of one set; give it alone")
        pairs = [metric for metric in self.metrics if metric != "is"]
        if not has_second and pairs and self.metrics != ("fid",):
            raise UserError(
                f"'{pairs[0]}' compares two sets; give a second one, or only 'is' as the metric"
            )

    def wanted(self, first: bool) -> Wanted:
        """What is to be computed of one of the sets.

        Args:
            first: Of the first one, whose inception score it is.

        Returns:
            The taps.
        """
        from inception_tf.generative.extract import Wanted
        from inception_tf.generative.network import BIASED_TAP, LOGITS_TAP

        statistics = (self.tap,) if "fid" in self.metrics else ()
        features = []
        if {"kid", "prc"} & set(self.metrics) or (self.infinity and first):
            features.append(self.tap)
        rule = self.convention.inception_score
        if first and "is" in self.metrics and rule is not None:
            features.append(BIASED_TAP if rule.bias else LOGITS_TAP)
        return Wanted(statistics, tuple(features))
