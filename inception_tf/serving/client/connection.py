# SPDX-License-Identifier: Apache-2.0
"""What a client needs of a connection, whatever protocol it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Connection"]


class Connection(Protocol):
    """A connection to one model of one server; several threads may use it."""

    def size(self, data: bytes) -> int:
        """Computes the bytes that an image takes in a request.

        Args:
            data: An encoded image.

        Returns:
            Bytes, at most.
        """

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classifies images in one request.

        Args:
            images: Encoded images.

        Returns:
            The signature's outputs for each, with decoded strings.

        Raises:
            UserError: The server cannot be reached, reports an error, or replies with something else.
        """

    def status(self) -> dict[int | str | None, str]:
        """Returns {version: state} as the server reports."""

    def close(self) -> None:
        """Closes the connection."""
