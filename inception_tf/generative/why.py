# SPDX-License-Identifier: Apache-2.0
"""Why tools give different numbers: the same sets in the way of each, and what differs."""

from __future__ import annotations

from typing import Any

from inception_tf.generative.comparison import compute
from inception_tf.generative.conventions import CONVENTIONS, TORCH_FIDELITY, differences
from inception_tf.generative.images import ImagesLike
from inception_tf.generative.network import open_weights_for_features
from inception_tf.generative.results import Comparison

__all__ = ["compare_tools", "tool_differences"]

RULES = {"is": "inception_score", "kid": "kernel", "prc": "neighbors"}


def compare_tools(first: ImagesLike, second: ImagesLike, **options: Any) -> list[Comparison]:
    """Compares two sets of images in the way of every tool.

    Args:
        first: The generated images.
        second: The real images.
        **options: Of `comparison.compute`, but `like`; of its metrics those that a tool has.

    Returns:
        One comparison per tool, in the order of `CONVENTIONS`.

    Raises:
        UserError: As `compute` raises it.

    Example:

        for found in compare_tools("samples/", "train/"):
            print(found.convention.name, found.fid)
    """
    weights = options.pop("weights", "fid_2015")
    opened = open_weights_for_features(weights)
    metrics = tuple(options.pop("metrics", ("fid",)))
    found = []
    for name, convention in CONVENTIONS.items():
        theirs = tuple(
            metric
            for metric in metrics
            if metric not in RULES or getattr(convention, RULES[metric]) is not None
        )
        if theirs:
            found.append(
                compute(
                    *(first, second),
                    metrics=theirs,
                    like=name,
                    weights=weights,
                    opened=opened,
                    **options,
                )
            )
    return found


def tool_differences() -> dict[str, tuple[str, ...]]:
    """What makes the numbers of each tool differ from torch-fidelity's, which are those of the graph of 2015.

    Returns:
        Tool → one line per difference.
    """
    reference = CONVENTIONS[TORCH_FIDELITY]
    return {
        name: differences(reference, convention)
        for name, convention in CONVENTIONS.items()
        if name != TORCH_FIDELITY
    }
