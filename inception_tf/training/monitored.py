# SPDX-License-Identifier: Apache-2.0
"""Which number of an epoch decides how good it is: top-1 accuracy, or mean average precision of multi-label data."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["MAP", "monitored_metric", "scores_of"]

# Columns of `history.csv`; with `val_` before them, in validation.
MAP, TOP1, TOP5 = "map", "top1", "top5"
TITLES = {MAP: "mean average precision", TOP1: "top-1 accuracy"}


def monitored_metric(row: Mapping) -> str:
    """Finds the number that decides which epoch is the best, the higher the better.

    Args:
        row: Of the history.

    Returns:
        `map` or `top1`; in validation it is the same with `val_` before it.
    """
    return MAP if f"val_{MAP}" in row else TOP1


def scores_of(row: Mapping) -> dict[str, float]:
    """Takes the scores in validation from a row of the history.

    Args:
        row: Of the history.

    Returns:
        `val_map`, or `val_top1` and `val_top5`.
    """
    names = (MAP,) if monitored_metric(row) == MAP else (TOP1, TOP5)
    return {f"val_{name}": row[f"val_{name}"] for name in names}
