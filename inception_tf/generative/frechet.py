# SPDX-License-Identifier: Apache-2.0
"""The Fréchet distance between two sets of features (FID), its standard error, and its value for infinitely many images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inception_tf.errors import UserError, missing_package, unknown
from inception_tf.generative.statistics import FeatureStatistics

__all__ = [
    "FEW_IMAGES",
    "FORMS",
    "Extrapolation",
    "frechet_distance",
    "frechet_distance_to_infinity",
    "frechet_standard_error",
    "images_behind",
    "is_singular",
]

FEW_IMAGES = 10_000  # below, the bias of FID is larger than what most papers compare
FORMS = ("eigenvalues", "sqrtm")
# Of the largest eigenvalue.  Squared in float64, smaller ones are noise, and the root of noise is not small.
SQUARED_NOISE = 1e-11
NULL = 1e-13  # of the largest eigenvalue: rank of a covariance computed in float64
NEGATIVE = 1e-4  # of the largest eigenvalue: what rounding to float32 leaves of zero
OFFSET = 1e-6  # pytorch-fid's and clean-fid's, on the diagonals
IMAGINARY = 1e-3  # what the diagonal of their root may have
POINTS = 15  # of the line of Chong and Forsyth
SMALLEST = 5_000  # images of its first point, where there are so many


def frechet_distance(
    first: FeatureStatistics,
    second: FeatureStatistics,
    *,
    form: str | None = None,
    allow_singular: bool = False,
) -> float:
    """The squared Fréchet (2-Wasserstein) distance between two normal distributions.

    It is |m1 - m2|² + tr(S1) + tr(S2) - 2 tr((S1 S2)^½).  With S = L Lᵀ the last trace is the sum of the singular
    values of L1ᵀ L2, which have full precision where the eigenvalues of S1 S2 are the squares of rounding errors.

    Args:
        first: Statistics of one set.
        second: Statistics of the other; the order does not matter.
        form: How the trace is computed where a covariance is singular; without one, all agree to 1e-9.  None: by
            singular values.  "eigenvalues": as torch-fidelity and torchmetrics, with the roots of the rounding errors,
            which change FID of 2,048 features by 1e-5 and take a minute.  "sqrtm": as pytorch-fid and clean-fid, by
            SciPy, with 1e-6 on both diagonals where it is not finite, and a refusal where it is not real.
        allow_singular: Compute the distance of singular covariances too, which depends more on the number of images
            than on what they show.

    Returns:
        The distance, 0 for equal statistics, up to rounding, which can make it slightly negative.

    Raises:
        UserError: A covariance is singular and that is not allowed, the numbers of features differ, or one is no
            covariance.

    Source: Heusel et al. 2017, arXiv 1706.08500, equation 6; Dowson and Landau 1982.
    """
    if form is not None and form not in FORMS:
        raise unknown("form", form, FORMS)
    if first.features != second.features:
        raise UserError(
            f"statistics of {first.features} and of {second.features} features have no distance;"
            " take both from one tap"
        )
    covariances = first.covariance, second.covariance
    singular = [one for one in (first, second) if is_singular(one)]
    if singular and not allow_singular:
        raise UserError(_refusal(singular[0]))
    difference = first.mean - second.mean
    traces = sum(float(np.trace(one)) for one in covariances)
    roots = {"eigenvalues": _eigenvalues_trace, "sqrtm": _sqrtm_trace}
    root = roots[form] if singular and form else _root_trace
    return float(difference @ difference) + traces - 2 * root(*covariances)


def is_singular(statistics: FeatureStatistics) -> bool:
    """Whether the covariance has fewer dimensions than its features that vary.

    Args:
        statistics: Of at least 2 images.

    Returns:
        True where there are no more images than features; of statistics that do not say their number of images,
        where the rank shows it.
    """
    if statistics.count is not None:
        return statistics.count <= statistics.features
    return images_behind(statistics) is not None


def images_behind(statistics: FeatureStatistics) -> int | None:
    """How many images a singular covariance comes from: its rank and one.

    Args:
        statistics: Of any tool.

    Returns:
        The number of images; None where the covariance has full rank and any number above it is possible.
    """
    covariance = statistics.covariance
    live = np.diagonal(covariance) > 0
    values = np.linalg.eigvalsh(covariance[np.ix_(live, live)])
    if not len(values):
        return 1
    rank = int((values > NULL * len(values) * values[-1]).sum())
    return rank + 1 if rank < len(values) else None


def _refusal(statistics: FeatureStatistics) -> str:
    images, features = statistics.count or images_behind(statistics), statistics.features
    return (
        f"{images:,} images have a singular covariance of {features:,} features, and a distance that depends"
        f" on their number: give at least {features + 1:,} images, take a tap with fewer features, or allow it"
    )


def _root_trace(first: np.ndarray, second: np.ndarray) -> float:
    """tr((S1 S2)^½)."""
    # A feature that is constant in one set adds nothing.
    live = (np.diagonal(first) > 0) & (np.diagonal(second) > 0)
    if not live.any():
        return 0.0
    first, second = (one[np.ix_(live, live)] for one in (first, second))
    product = _factor(first).T @ _factor(second)
    if product.shape[0] == product.shape[1]:
        squares = np.linalg.eigvalsh(product @ product.T)
        if squares[0] > SQUARED_NOISE * squares[-1]:
            return float(np.sqrt(squares).sum())
    return float(np.linalg.svd(product, compute_uv=False).sum())


def _factor(covariance: np.ndarray) -> np.ndarray:
    """L (D, R) with S = L Lᵀ."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
    if values[0] < -NEGATIVE * values[-1]:
        raise UserError(
            f"a covariance has the negative eigenvalue {values[0]:.3g} (the largest is {values[-1]:.3g}),"
            " which no set of features has; give an undamaged statistics file"
        )
    kept = values > 0
    return vectors[:, kept] * np.sqrt(values[kept])


def _eigenvalues_trace(first: np.ndarray, second: np.ndarray) -> float:
    """As torch-fidelity 0.4.0 and torchmetrics 1.9.0 compute it."""
    values = np.linalg.eigvals(first @ second).astype(np.complex128)
    return float(np.sqrt(values).real.sum())


def _sqrtm_trace(first: np.ndarray, second: np.ndarray) -> float:
    """As pytorch-fid 0.3.0 and clean-fid 0.1.35 compute it."""
    try:
        from scipy.linalg import sqrtm
    except ModuleNotFoundError as error:
        raise missing_package("FID of singular covariances by sqrtm", "scipy", "fid") from error
    with warnings.catch_warnings():
        # SciPy warns of a singular matrix, which is known here; `disp=False`, gone since 1.18, was to say nothing.
        warnings.simplefilter("ignore")
        root = sqrtm(first @ second)
        if not np.isfinite(root).all():
            offset = np.eye(len(first)) * OFFSET
            root = sqrtm((first + offset) @ (second + offset))
    diagonal = np.diagonal(root)
    if not np.allclose(diagonal.imag, 0, atol=IMAGINARY):
        raise UserError(
            f"the root of the covariances has the imaginary component {np.abs(root.imag).max():.3g}, where"
            " pytorch-fid and clean-fid stop; give more images or take a tap with fewer features"
        )
    return float(diagonal.real.sum())


def frechet_standard_error(
    features: np.ndarray, own: FeatureStatistics, other: FeatureStatistics
) -> float:
    """The standard error of the Fréchet distance from the choice of one set's images.

    By the delta method: the distance changes with each image x by 2 (m1 - m2)·(x - m1) + (x - m1)ᵀ (I - T) (x - m1)
    less its mean, where T = S1^-½ (S1^½ S2 S1^½)^½ S1^-½ maps one normal distribution onto the other.

    Args:
        features: (N, D), those of the set.
        own: Their statistics.
        other: The statistics of the other set, which is taken as fixed; for two samples the squares of both add up.

    Returns:
        The standard error; it has no part of the bias, which falls as 1 / N.

    Raises:
        UserError: The covariance is singular, where the error is not defined.
    """
    if is_singular(own):
        raise UserError(_refusal(own))
    values, vectors = np.linalg.eigh(own.covariance)
    values = np.maximum(values, NULL * values[-1])
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    middle, turned = np.linalg.eigh(root @ other.covariance @ root)
    transport = inverse @ (turned * np.sqrt(np.maximum(middle, 0))) @ turned.T @ inverse
    change = np.eye(len(values)) - transport
    shift = 2 * (own.mean - other.mean)
    influence = np.empty(len(features))
    for start in range(0, len(features), 4096):
        block = features[start : start + 4096].astype(np.float64) - own.mean
        influence[start : start + 4096] = block @ shift + np.einsum(
            "nd,nd->n", block @ change, block
        )
    return float(influence.std(ddof=1) / len(features) ** 0.5)


@dataclass(frozen=True)
class Extrapolation:
    """FID as a line in 1 / N, and its value at N = ∞."""

    distance: float  # at 1 / N = 0
    standard_error: float  # of the line's value there
    images: tuple[int, ...]  # N of each point
    distances: tuple[float, ...]  # FID of each point


def frechet_distance_to_infinity(
    features: np.ndarray,
    reference: FeatureStatistics,
    *,
    points: int = POINTS,
    seed: int = 2020,
    allow_singular: bool = False,
    on_point: Callable[[int], None] = lambda images: None,
) -> Extrapolation:
    """FID of infinitely many images, which is free of the bias that falls as 1 / N.

    A line is fitted to the FID of random subsets of sizes at equal distances.

    Args:
        features: (N, D), those of the generated images.
        reference: Statistics of the real images.
        points: The number of subsets, at least 3.
        seed: Decides which images are in which subset.
        allow_singular: As for `frechet_distance`.
        on_point: Called after each subset with its number of images.

    Returns:
        The line's value, and its points.

    Raises:
        UserError: There are too few images or points.

    Source: Chong and Forsyth 2020, arXiv 1911.07023, section 4; the sizes are those of its code.
    """
    count = len(features)
    if points < 3:
        raise UserError(f"a line and its error need at least 3 points, got {points}")
    smallest = min(SMALLEST, max(count // 10, 2))
    if not allow_singular:
        smallest = max(smallest, features.shape[1] + 1)
    if smallest + points > count:
        raise UserError(
            f"FID for infinitely many images needs more than {smallest + points:,} of {features.shape[1]:,} features,"
            f" got {count:,}"
        )
    random = np.random.RandomState(seed)
    sizes = np.linspace(smallest, count, points).astype(int)
    distances = []
    for size in sizes:
        statistics = FeatureStatistics()
        chosen = np.sort(random.permutation(count)[:size])
        for start in range(0, size, 4096):
            statistics.update(features[chosen[start : start + 4096]])
        distances.append(frechet_distance(statistics, reference, allow_singular=allow_singular))
        on_point(int(size))
    design = np.stack([np.ones(points), 1 / sizes], axis=1)
    line, residual, *_ = np.linalg.lstsq(design, np.array(distances), rcond=None)
    variance = float(residual[0]) / (points - 2) if len(residual) else 0.0
    error = (variance * np.linalg.inv(design.T @ design)[0, 0]) ** 0.5
    return Extrapolation(float(line[0]), float(error), tuple(sizes.tolist()), tuple(distances))
