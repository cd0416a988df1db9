# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be read: skipped, counted and named; too many of them are an error."""

from __future__ import annotations

import logging
import threading

from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError
from inception_tf.host.files import open_regular, retry_lost

__all__ = ["DAMAGED", "EMPTY", "LIMIT", "OK", "BadImages"]

OK, DAMAGED, EMPTY = "ok", "damaged: cannot be decoded", "empty"  # status of an image

LIMIT = 0.01  # fraction of a split's images that may be skipped
LISTED = 20  # names in an error message; the log has all

log = logging.getLogger("inception_tf")


class BadImages:
    """The images of one split that were skipped so far, with reasons; thread-safe.

    Args:
        split: The split; what it lists as damaged counts from the start.
        limit: float in [0, 1]. Fraction of the split above which `note` raises.
        option: How a larger one is allowed, for the error.

    Raises:
        UserError: More images than `limit` are damaged already.
    """

    def __init__(
        self, split: Split, limit: float = LIMIT, option: str | None = "--max-bad FRACTION"
    ) -> None:
        self.split = split
        self.limit = limit
        self.option = option
        self.total = len(split) + len(split.damaged)
        self._reasons: dict[str, str] = dict(split.damaged)
        self._lost: UserError | None = None
        self._lock = threading.Lock()  # the pipeline's threads write while others read
        if self.exceeded:
            raise self.error()

    @property
    def reasons(self) -> dict[str, str]:
        """The names of the skipped images so far, each with the reason."""
        with self._lock:
            return dict(self._reasons)

    @property
    def count(self) -> int:
        """How many images were skipped."""
        with self._lock:
            return len(self._reasons)

    def note(self, index: int, reason: str) -> None:
        """Count an image, once however often it is skipped.

        Args:
            index: int. Its index in the split.
            reason: str. Why it was skipped.

        Raises:
            UserError: More images than `limit` were skipped.
        """
        name = self.split.describe(index)
        with self._lock:
            if name in self._reasons:
                return
            self._reasons[name] = reason
        log.warning("skipped %s: %s", name, reason)
        if self.exceeded:
            raise self.error()

    def wait_for(self, index: int) -> None:
        """Wait for the file of an image that could not be read: a share may have lost it for a moment.

        Args:
            index: int. Its index in the split.

        Raises:
            UserError: The file stays away, or is no regular file any more; it is not counted as damaged.
        """
        path = self.split.path(index)
        if path is None:
            return
        try:
            if self._lost is None:  # others have waited in vain
                retry_lost(lambda: open_regular(path).close())
        except UserError as error:
            self._lost = UserError(
                f"{error}, and was there when the data was listed; bring it back, and run the command again, a"
                " training with --resume"
            )
        if self._lost is not None:
            raise self._lost

    def failure(self) -> UserError | None:
        """Why a pass over the images has to end.

        Returns:
            The error for a lost file, or for too many skipped images; None if there is neither.
        """
        return self._lost or (self.error() if self.exceeded else None)

    @property
    def exceeded(self) -> bool:
        """Whether more images than `limit` were skipped."""
        return self.count > self.limit * self.total

    def error(self) -> UserError:
        """The error for too many skipped images, with their names."""
        listed = [f"{name} ({reason})" for name, reason in sorted(self.reasons.items())]
        rest = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        allow = f", or allow a larger fraction with {self.option}" if self.option else ""
        return UserError(
            f"{len(listed)} of {self.total} images cannot be read, more than {self.limit:.2%}:"
            f" {', '.join(listed[:LISTED])}{rest}; repair or remove them{allow}"
        )
