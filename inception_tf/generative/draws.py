# SPDX-License-Identifier: Apache-2.0
"""The random subsets and orders that each tool draws, from NumPy alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inception_tf.generative.conventions import KernelRule

__all__ = ["kernel_subsets", "permutation"]


def permutation(count: int, draws: str, random: np.random.RandomState) -> np.ndarray:
    """A random order.

    Args:
        count: The number of elements.
        draws: "numpy": as `RandomState.permutation`; "torch": as `torch.randperm` on the processor, after
            `torch.manual_seed` with the seed of `random`.
        random: Its next numbers are used.

    Returns:
        (count,) int64.
    """
    return random.permutation(count) if draws == "numpy" else _randperm(count, count, random)


def kernel_subsets(
    rule: KernelRule, counts: tuple[int, int], size: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The subsets of KID in the order in which a tool draws them.

    Args:
        rule: Of a convention.
        counts: The number of images of both sets.
        size: The number of images of a subset.
        seed: torch-fidelity's 2020, or what the user of the tool has seeded NumPy or torch with.

    Yields:
        Indices into the first and into the second set, `size` of each.
    """
    random = np.random.RandomState(seed)
    draw = _choice if rule.draws == "numpy" else _randperm
    for _ in range(rule.subsets):
        pair = [
            draw(count, size, random) for count in (counts[::-1] if rule.second_first else counts)
        ]
        yield (pair[1], pair[0]) if rule.second_first else (pair[0], pair[1])


def _choice(count: int, size: int, random: np.random.RandomState) -> np.ndarray:
    return random.choice(count, size, replace=False)


def _randperm(count: int, size: int, random: np.random.RandomState) -> np.ndarray:
    """The first `size` of `torch.randperm(count)`: both generators are the Mersenne Twister, seeded alike."""
    numbers = random.randint(0, 2**32, count - 1, dtype=np.uint32).astype(np.int64)
    places = np.arange(count - 1) + numbers % np.arange(count, 1, -1)
    order = np.arange(count)
    for i, place in enumerate(places[:size].tolist()):
        order[i], order[place] = order[place], order[i]
    return order[:size]
