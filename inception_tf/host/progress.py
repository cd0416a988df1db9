# SPDX-License-Identifier: Apache-2.0
"""Progress bars on stderr, the same for all commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from inception_tf.errors import printable

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["progress_bar"]

# Seconds between two updates: a moving bar, or a line now and then in a log file.
TERMINAL_S, LOG_S = 0.2, 5.0


def progress_bar(total: int | None, desc: str, *, unit: str = "images", **options: Any) -> tqdm:
    """Creates a tqdm progress bar on stderr that counts images, or other units.

    Args:
        total: the number of images; None where it is unknown.
        desc: the text before the bar.
        unit: what is counted.
        options: further arguments of `tqdm.tqdm`.

    Returns:
        The `tqdm.tqdm` object, which the caller updates and closes.
    """
    from tqdm import tqdm

    interval = TERMINAL_S if sys.stderr.isatty() else LOG_S
    return tqdm(
        total=total,
        desc=printable(desc),  # it may be a file's name
        unit=unit,
        file=sys.stderr,
        mininterval=interval,
        **options,
    )
