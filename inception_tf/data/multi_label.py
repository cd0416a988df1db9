# SPDX-License-Identifier: Apache-2.0
"""Images that show several classes: one image of several class folders, and the classes of each as a row of zeros and ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from inception_tf.data.duplicates import first_of_equals
from inception_tf.data.sources.splits import Split

__all__ = ["merge_equal_images", "same_names", "target_rows", "unlabeled_warning"]

ALSO = "equal bytes in another class folder, one image of both classes"
AGAIN = "equal bytes in the same class folder"


def target_rows(images: int, classes: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Makes the rows of `Split.targets`.

    Args:
        images: int. N.
        classes: int. K.
        pairs: (image, class), which may repeat.

    Returns:
        (N, K) uint8.
    """
    rows = np.zeros((images, classes), np.uint8)
    found = np.array(list(pairs), np.int64).reshape(-1, 2)
    rows[found[:, 0], found[:, 1]] = 1
    return rows


def merge_equal_images(split: Split, classes: int) -> tuple[Split, dict[str, str]]:
    """Makes one image of all files with the same bytes, which shows the classes of all their folders.

    Args:
        split: Image files, listed once for each class folder that they lie in.
        classes: int. The number of classes, K.

    Returns:
        The split, whose images are the first of their kind; and path → reason, of the other files.

    Raises:
        UserError: A file cannot be read.
    """
    first = first_of_equals(split)
    rows = target_rows(
        len(split), classes, zip(first.tolist(), split.classes.tolist(), strict=True)
    )
    is_first = first == np.arange(len(split))
    # Of the files of one class all but the first add no class.
    seen: set[tuple[int, int]] = set()
    others = {}
    for index, (leader, number) in enumerate(zip(first, split.classes, strict=True)):
        if index != leader:
            others[str(split.images[index])] = AGAIN if (leader, number) in seen else ALSO
        seen.add((leader, number))
    return replace(split, targets=rows).take(is_first), others


def same_names(splits: Mapping[str, Split]) -> Iterator[str]:
    """What the names of multi-label images warn of: one name in several class folders, for different bytes.

    Args:
        splits: After `merge_equal_images`.

    Yields:
        Sentences.
    """
    for split, found in splits.items():
        first: dict[str, str] = {}
        pairs = []
        for path in map(found.describe, range(len(found))):
            other = first.setdefault(os.path.basename(path), path)
            if other != path:
                pairs.append(f"'{other}' and '{path}'")
        if pairs:
            yield (
                f"{split or 'all'}: {len(pairs):,} file names are in several class folders with different bytes, and"
                f" count as different images, such as {pairs[0]}"
            )
        if len(found) and found.targets is not None and found.targets.sum(axis=1).max() < 2:
            yield (
                f"{split or 'all'}: no image is in several class folders, byte by byte, so that each shows one class"
            )


def unlabeled_warning(splits: Mapping[str, Split]) -> Iterator[str]:
    """How many images show no class, of each split.

    Args:
        splits: Multi-label images.

    Yields:
        Sentences.
    """
    for split, found in splits.items():
        if found.targets is not None and (none := int((~found.targets.any(axis=1)).sum())):
            yield f"{split}: {none:,} of {len(found):,} images show no class"
