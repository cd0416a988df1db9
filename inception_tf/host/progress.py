# SPDX-License-Identifier: Apache-2.0
"""Progress bars on stderr, the same for all commands."""

from __future__ import annotations

import sys

__all__ = ["progress_bar"]

TERMINAL_S, LOG_S = (
    0.2,
    5.0,
)  # between two updates: a moving bar, or a line now and then in a log file


def progress_bar(total: int | None, desc: str, **options):
    """A tqdm bar that counts images on stderr.

    Args:
        total: images; None where nobody knows.
        desc: what stands before it.
        options: further arguments of `tqdm.tqdm`.
    """
    from tqdm import tqdm

    interval = TERMINAL_S if sys.stderr.isatty() else LOG_S
    return tqdm(
        total=total, desc=desc, unit="images", file=sys.stderr, mininterval=interval, **options
    )
