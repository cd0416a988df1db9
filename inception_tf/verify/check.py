# SPDX-License-Identifier: Apache-2.0
"""What a check of a SavedModel is: a function that describes what it found, or raises."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["CheckFailedError", "CheckFunction", "CheckSkippedError"]


class CheckFailedError(Exception):
    """A check found an error; the message says which."""


class CheckSkippedError(Exception):
    """A check could not be made; the message says why."""


class CheckFunction(Protocol):
    """What each check of a SavedModel is, of its files or of its outputs."""

    def __call__(self, *evidence: Any) -> str:
        """Looks at one property.

        Args:
            *evidence: What it looks at: the version folder, the MetaGraphDef of `read_meta_graph`, or the `SampleRun`
                and what its outputs are compared with.

        Returns:
            A few words for the report.

        Raises:
            CheckFailedError: The SavedModel does not have the property; the message says why.
            CheckSkippedError: It cannot be seen; the message says why.
        """
