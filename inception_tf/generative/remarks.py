# SPDX-License-Identifier: Apache-2.0
"""What is to be said of a comparison beside its numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from inception_tf.errors import printable
from inception_tf.generative.frechet import FEW_IMAGES
from inception_tf.generative.statistics import Notes

__all__ = ["image_warnings", "note_warnings"]


def image_warnings(
    names: Sequence[str],
    counts: Sequence[tuple[int | None, int]],
    weights_note: str | None,
    metrics: Collection[str],
) -> list[str]:
    """Says what the weights and the numbers of images do to the metrics.

    Args:
        names: Of the sets.
        counts: How many images of each were read, None where that is unknown, and how many could not be.
        weights_note: What is to be said of the weights, if anything.
        metrics: Which were computed.

    Returns:
        Sentences.
    """
    found = [weights_note] if weights_note else []
    for name, (images, skipped) in zip(map(printable, names), counts, strict=True):
        if skipped and images is not None:
            found.append(
                f"{name}: {skipped:,} of {images + skipped:,} images cannot be read, and the metrics are those of the"
                f" other {images:,}"
            )
        if images is not None and images < FEW_IMAGES and "fid" in metrics:
            found.append(
                f"{name} has {images:,} images: FID is biased upward, and comparable only with FID of as many; papers"
                f" use {FEW_IMAGES:,} or more"
            )
    return found


def note_warnings(names: tuple[str, str], notes: tuple[Notes, Notes]) -> list[str]:
    """Says where two statistics were computed in different ways, or do not say how.

    Args:
        names: Of the sets.
        notes: Of their statistics.

    Returns:
        Sentences.
    """
    shown = [printable(name) for name in names]
    found = [
        f"{name} does not say which tool and which weights it was computed with"
        for name, note in zip(shown, notes, strict=True)
        if note == Notes()
    ]
    return found + [
        f"{shown[0]} and {shown[1]} were computed in different ways: {phrase}"
        for phrase in notes[0].differences(notes[1])
    ]
