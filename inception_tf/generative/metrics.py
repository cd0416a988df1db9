# SPDX-License-Identifier: Apache-2.0
"""Inception score, KID, precision and recall, density and coverage: functions of features, by each tool's definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from inception_tf.errors import UserError
from inception_tf.generative.conventions import (
    CONVENTIONS,
    TORCH_FIDELITY,
    InceptionScoreRule,
    KernelRule,
    NeighborRule,
)
from inception_tf.generative.draws import kernel_subsets, permutation

__all__ = [
    "InceptionScore",
    "KernelDistance",
    "PrecisionRecall",
    "inception_score",
    "kernel_distance",
    "precision_recall",
]

SEED = (
    2020  # torch-fidelity's; where a tool has none, its random numbers as if it had been given this
)
BLOCK = 512  # rows of a matrix of distances; 512 against 50,000 take 0.2 GB
ROUNDING = 1e-12  # of the sum of both squared lengths: a squared distance that is none
DENSITY_NEIGHBORS = 5  # Naeem et al. 2020


@dataclass(frozen=True)
class InceptionScore:
    """The inception score over splits."""

    mean: float
    deviation: float | None  # over the splits, as the tool divides; None: of too few of them
    standard_error: float | None  # of the mean over the splits; None: of one split
    splits: int


@dataclass(frozen=True)
class KernelDistance:
    """KID over random subsets, which overlap: the deviation is that of one subset."""

    mean: float  # unbiased, and thus negative for about half of equal distributions
    deviation: float
    standard_error: (
        float | None
    )  # of the mean from the choice of subsets alone; None: of one subset
    subsets: int
    subset_size: int


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall by nearest neighbors, and density and coverage."""

    precision: float  # fraction of generated images inside the balls of real ones
    recall: float  # fraction of real images inside the balls of generated ones
    f_score: float
    density: float  # mean number of real balls around a generated image, divided by its neighbors; may exceed 1
    coverage: float  # fraction of real images with a generated one in their ball
    # Standard errors of the means over images, for fixed balls.
    precision_error: float
    recall_error: float
    density_error: float
    coverage_error: float


def inception_score(
    logits: np.ndarray, rule: InceptionScoreRule | None = None, *, seed: int = SEED
) -> InceptionScore:
    """exp of the mean divergence between an image's class probabilities and those of its split.

    Args:
        logits: (N, K), without the classifier's bias where the rule says so, as all tools have it.
        rule: Of a convention; None: torch-fidelity's.
        seed: Decides the order of the images.

    Returns:
        Mean and deviation over the splits.

    Raises:
        UserError: There are fewer images than splits, or logits with NaN or infinity.

    Source: Salimans et al. 2016, arXiv 1606.03498, section 4.
    """
    rule = rule or CONVENTIONS[TORCH_FIDELITY].inception_score
    assert rule is not None
    count = len(_checked(logits, "logits"))
    if count < rule.splits:
        raise UserError(
            f"the inception score needs at least {rule.splits} images, one per split, got {count}"
        )
    order = permutation(count, rule.draws, np.random.RandomState(seed))
    scores = np.array(
        [_split_score(logits[order[start:stop]]) for start, stop in _splits(rule, count)]
    )
    deviation = float(scores.std(ddof=rule.ddof)) if len(scores) > rule.ddof else None
    return InceptionScore(float(scores.mean()), deviation, _standard_error(scores), len(scores))


def _standard_error(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None


def _splits(rule: InceptionScoreRule, count: int) -> Iterator[tuple[int, int]]:
    if rule.sizes == "even":
        edges = [i * count // rule.splits for i in range(rule.splits + 1)]
    else:  # torch.chunk
        size = -(-count // rule.splits)
        edges = [*range(0, count, size), count]
    return pairwise(edges)


def _split_score(logits: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    q = p.mean(axis=0)
    # A class that no image of the split has adds nothing: 0 log 0.
    log_q = np.log(np.where(q > 0, q, 1))
    return float(np.exp((p * (log_p - log_q)).sum(axis=1).mean()))


def kernel_distance(
    first: np.ndarray,
    second: np.ndarray,
    rule: KernelRule | None = None,
    *,
    seed: int = SEED,
    subsets: Iterable[tuple[np.ndarray, np.ndarray]] | None = None,
    on_subset: Callable[[int], None] = lambda count: None,
) -> KernelDistance:
    """KID: the unbiased squared maximum mean discrepancy with a polynomial kernel, over random subsets.

    Args:
        first: (N, D), features of one set.
        second: (M, D), features of the other.
        rule: Of a convention; None: torch-fidelity's.
        seed: Decides the subsets; torch-fidelity draws with 2020, of the others it is what its user has seeded with.
        subsets: The subsets to use in place of random ones: pairs of equally many indices into each set.
        on_subset: Called after each subset with 1.

    Returns:
        Mean and deviation over the subsets.

    Raises:
        UserError: A set has fewer images than a subset, where the tool refuses that; or NaN or infinity.

    Source: Bińkowski et al. 2018, arXiv 1801.01401.
    """
    rule = rule or CONVENTIONS[TORCH_FIDELITY].kernel
    assert rule is not None
    _check_pair(first, second)
    size = min(rule.subset_size, len(first), len(second))
    if subsets is None:
        if size < (2 if rule.shrinks else rule.subset_size):
            fewest = 2 if rule.shrinks else rule.subset_size
            raise UserError(
                f"KID takes subsets of {fewest:,} images, and a set has only {size:,}; give more images or"
                " a smaller subset"
            )
        subsets = kernel_subsets(rule, (len(first), len(second)), size, seed)
    values = []
    for one, two in subsets:
        size = len(one)
        values.append(_discrepancy(first[one], second[two], rule))
        on_subset(1)
    found = np.array(values)
    return KernelDistance(
        float(found.mean()), float(found.std()), _standard_error(found), len(found), size
    )


def _discrepancy(x: np.ndarray, y: np.ndarray, rule: KernelRule) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    count, features = x.shape
    gamma = 1 / features if rule.gamma is None else rule.gamma

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T * gamma + rule.coef) ** rule.degree

    within = 0.0
    for one in (x, y):
        products = kernel(one, one)
        within += float(products.sum() - np.trace(products))
    return within / (count * (count - 1)) - 2 * float(kernel(x, y).mean())


def precision_recall(
    generated: np.ndarray,
    real: np.ndarray,
    rule: NeighborRule | None = None,
    *,
    on_rows: Callable[[int], None] = lambda count: None,
) -> PrecisionRecall:
    """Which images lie within the distance of a k-th nearest neighbor of images of the other set.

    Precision is asked of the generated images (are they among the real ones?), recall of the real ones.  Memory is
    that of a block of distances, whatever the number of images.

    Args:
        generated: (N, D), features of the generated images.
        real: (M, D), features of the real images.
        rule: Of a convention; None: torch-fidelity's.  Density and coverage have 5 neighbors, as their authors use.
        on_rows: Called after each block with its number of images; N + M rows in all, twice.

    Returns:
        The four fractions.

    Raises:
        UserError: A set has no more images than neighbors; or NaN or infinity.

    Source: Kynkäänniemi et al. 2019, arXiv 1904.06991; Naeem et al. 2020, arXiv 2002.09797.
    """
    rule = rule or CONVENTIONS[TORCH_FIDELITY].neighbors
    assert rule is not None
    _check_pair(generated, real)
    neighbors = (rule.neighbors, DENSITY_NEIGHBORS)
    fewest = min(len(generated), len(real))
    if fewest <= rule.neighbors:
        raise UserError(
            f"precision and recall by {rule.neighbors} neighbors need more than {rule.neighbors} images in each"
            f" set, got {fewest}"
        )
    generated, real = (np.asarray(one, np.float64) for one in (generated, real))
    real_radii = _radii(real, neighbors, on_rows)
    generated_radii = _radii(generated, neighbors[:1], on_rows)
    inside, density = [], []
    nearest = np.full(len(real), np.inf)
    for squared in _squared_distances(generated, real):
        inside.append((squared <= real_radii[0]).any(axis=1))
        density.append((squared < real_radii[1]).sum(axis=1) / DENSITY_NEIGHBORS)
        nearest = np.minimum(nearest, squared.min(axis=0))
        on_rows(len(squared))
    found = []
    for squared in _squared_distances(real, generated):
        found.append((squared <= generated_radii[0]).any(axis=1))
        on_rows(len(squared))
    means = [
        np.concatenate(inside),
        np.concatenate(found),
        np.concatenate(density),
        nearest < real_radii[1],
    ]
    precision, recall, dense, covered = (float(one.mean()) for one in means)
    errors = [float(one.std()) / len(one) ** 0.5 for one in means]
    f_score = 2 * precision * recall / max(1e-5, precision + recall)
    return PrecisionRecall(precision, recall, f_score, dense, covered, *errors)


def _radii(
    points: np.ndarray, neighbors: tuple[int, ...], on_rows: Callable[[int], None]
) -> np.ndarray:
    """(len(neighbors), N): squared distances to the k-th nearest other point."""
    # Fewer points than neighbors, of density and coverage: the farthest.
    kth = sorted({min(k, len(points) - 1) for k in neighbors})
    found = []
    for squared in _squared_distances(points, points):
        nearest = np.partition(squared, kth, axis=1)
        found.append([nearest[:, min(k, len(points) - 1)] for k in neighbors])
        on_rows(len(squared))
    return np.concatenate(found, axis=1)


def _squared_distances(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    """(BLOCK, M) squared distances of the rows of one set to all of the other, block by block."""
    norms = np.einsum("nd,nd->n", second, second)
    for start in range(0, len(first), BLOCK):
        block = first[start : start + BLOCK]
        sums = np.einsum("nd,nd->n", block, block)[:, None] + norms
        squared = sums - 2 * (block @ second.T)
        # What rounding leaves between equal images, whose balls would otherwise hold each other by chance.
        squared[squared < ROUNDING * sums] = 0
        yield squared


def _check_pair(first: np.ndarray, second: np.ndarray) -> None:
    _checked(first, "features")
    _checked(second, "features")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"sets of {first.shape[1]} and of {second.shape[1]} features cannot be compared; take one tap"
        )


def _checked(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim != 2:
        raise UserError(f"{what} must have the shape (N, D), got {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(f"the {what} have NaN or infinity; check the weights")
    return values
