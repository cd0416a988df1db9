# SPDX-License-Identifier: Apache-2.0
"""One of the two sets that are compared, before and after its features are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inception_tf.generative.results import SetReport
from inception_tf.generative.statistics import FeatureStatistics

if TYPE_CHECKING:
    from inception_tf.generative.extract import Extracted
    from inception_tf.generative.images import ImageSet
    from inception_tf.generative.survey import Survey

__all__ = ["Side"]


@dataclass
class Side:
    """One of both sets, before and after its features are computed."""

    name: str
    statistics: FeatureStatistics | None = None  # of a file
    images: ImageSet | None = None
    survey: Survey | None = None
    found: Extracted | None = None

    def of_tap(self, tap: str) -> FeatureStatistics:
        """The statistics of a tap, computed or from a file.

        Args:
            tap: Its name.

        Returns:
            The statistics.
        """
        if self.statistics is not None:
            return self.statistics
        assert self.found is not None
        return self.found.statistics[tap]

    def report(self) -> SetReport:
        """What was read of the set.

        Returns:
            The counts, and the names of what was not read.
        """
        if self.images is None or self.found is None:
            count = self.statistics.count if self.statistics is not None else None
            return SetReport(self.name, count, {}, {}, {}, ())
        kinds = self.survey.kinds if self.survey is not None else {}
        damaged = dict(self.images.split.damaged) if self.images.split is not None else {}
        return SetReport(
            self.name,
            self.found.images,
            damaged | self.found.skipped,
            self.images.unread,
            kinds,
            self.images.notes,
            self.found.kept,
            self.found.seconds,
        )
