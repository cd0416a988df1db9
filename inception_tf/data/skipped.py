# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be read: skipped, but counted and named, and too many of them end the pass."""

from __future__ import annotations

import logging
import threading

from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError

__all__ = ["DAMAGED", "LIMIT", "OK", "BadImages"]

OK, DAMAGED = "ok", "damaged: cannot be decoded"  # status of an image

LIMIT = 0.01  # share of a split's images that may be skipped
LISTED = 20  # names in an error sentence; the log has them all

log = logging.getLogger("inception_tf")


class BadImages:
    """The images of one split that were skipped so far, by name, with the reason of each.

    limit: share of the split above which `note` raises and so ends the pass.  Reading threads write,
    any thread may read.
    """

    def __init__(self, split: Split, limit: float = LIMIT):
        self.split = split
        self.limit = limit
        self.reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return len(self.reasons)

    def note(self, index: int, reason: str) -> None:
        """Counts image `index` once, however often it is met; `UserError` beyond the limit."""
        name = self.split.describe(index)
        with self._lock:
            if name in self.reasons:
                return
            self.reasons[name] = reason
        log.warning("skipped %s: %s", name, reason)
        if self.exceeded:
            raise self.error()

    @property
    def exceeded(self) -> bool:
        return self.count > self.limit * len(self.split)

    def error(self) -> UserError:
        """The sentence for a pass that skipped too many, with their list."""
        listed = [f"{name} ({reason})" for name, reason in sorted(self.reasons.items())]
        rest = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        return UserError(
            f"{self.count} of {len(self.split)} images cannot be read, more than {self.limit:.2%}:"
            f" {', '.join(listed[:LISTED])}{rest}; repair or remove them, or allow a larger share"
            " with data.max_bad or --max-bad"
        )
