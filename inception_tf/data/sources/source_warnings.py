# SPDX-License-Identifier: Apache-2.0
"""What a data source has to say before it is used: classes with few images, files that are not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from inception_tf.data.formats import conversion_of, ending_of
from inception_tf.data.sources.splits import Split
from inception_tf.errors import printable

__all__ = ["class_warnings", "counted", "file_warnings", "listed"]

SHOWN = 10  # names in a warning


def class_warnings(classes: Sequence[str], splits: Mapping[str, Split]) -> Iterator[str]:
    """What the numbers of images of the classes warn of.

    Args:
        classes: Their names.
        splits: The images.

    Yields:
        Sentences.
    """
    counts = {split: images.class_counts(len(classes)) for split, images in splits.items()}
    total = sum(counts.values(), np.zeros(len(classes), np.int64))

    def named(chosen: np.ndarray) -> str:
        return listed([classes[index] for index in np.flatnonzero(chosen)])

    if (total == 0).any():
        yield f"classes without an image: {named(total == 0)}"
    if (total == 1).any():
        yield f"classes of one image, too few to train and to evaluate: {named(total == 1)}"
    for split, found in counts.items():
        absent = (found == 0) & (total > 1)
        if absent.any():
            yield f"classes without an image in {split}: {named(absent)}"


def file_warnings(unread: Mapping[str, str]) -> Iterator[str]:
    """What the files that are not read warn of.

    Args:
        unread: path → why it is not read.

    Yields:
        Sentences.
    """
    endings = Counter(map(ending_of, unread))
    for ending, count in sorted(endings.items()):
        line = conversion_of(ending)
        if line:
            yield f"{counted(count, f'{ending} file')} not read; in each folder, convert with: {line}"


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    Args:
        count: int. How many.
        noun: str. In the singular.

    Returns:
        `1 image`, `2 images`.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many follow.

    Args:
        names: Any.

    Returns:
        Part of a sentence.
    """
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{printable(name)}'" for name in names[:SHOWN]) + rest
