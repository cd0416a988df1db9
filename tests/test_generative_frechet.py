# SPDX-License-Identifier: Apache-2.0
"""The Fréchet distance: of normal distributions where it is known, singular, its error, and its value at infinity."""

from __future__ import annotations

import numpy as np
import pytest

from inception_tf import UserError
from inception_tf.generative import FeatureStatistics, frechet, frechet_distance
from inception_tf.generative.frechet import (
    frechet_distance_to_infinity,
    frechet_standard_error,
    images_behind,
    is_singular,
)


def normal(mean, covariance, count: int | None = 10**6) -> FeatureStatistics:
    return FeatureStatistics.of(np.array(mean, float), np.array(covariance, float), count)


def sampled(random, count: int, width: int, rank: int | None = None) -> np.ndarray:
    mixing = np.random.RandomState(5).normal(size=(rank or width, width))
    return random.normal(size=(count, rank or width)) @ mixing


def statistics_of(features: np.ndarray) -> FeatureStatistics:
    made = FeatureStatistics()
    made.update(features)
    return made


def rotation(width: int) -> np.ndarray:
    return np.linalg.qr(np.random.RandomState(3).normal(size=(width, width)))[0]


# With a common basis the distance is |m1 - m2|² + Σ (√a - √b)².
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (normal([0], [[1]]), normal([0], [[1]]), 0),
        (normal([0], [[1]]), normal([3], [[1]]), 9),
        (normal([0], [[4]]), normal([0], [[1]]), 1),
        (normal([1, 2], np.diag([4, 9])), normal([0, 0], np.diag([1, 1])), 5 + 1 + 4),
    ],
)
def test_normal_distributions_of_known_distance(first, second, expected):
    for pair in ((first, second), (second, first)):
        for form in (None, *frechet.FORMS):
            assert frechet_distance(*pair, form=form) == pytest.approx(expected, abs=1e-12)


def test_covariances_that_do_not_commute():
    # For 2x2, tr((AB)^½) = √(tr(AB) + 2 √det(AB)).
    a, b = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([[2.0, -1.0], [-1.0, 4.0]])
    product = a @ b
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(a + b) - 2 * root
    assert frechet_distance(normal([0, 0], a), normal([0, 0], b)) == pytest.approx(
        expected, rel=1e-12
    )


def test_the_basis_does_not_matter_and_a_scale_is_squared():
    q, scales = rotation(30), np.logspace(-5, 1, 30)
    first = normal(np.zeros(30), q * scales @ q.T)
    second = normal(np.ones(30), q * (4 * scales) @ q.T)
    assert frechet_distance(first, second) == pytest.approx(30 + scales.sum(), rel=1e-12)


@pytest.mark.parametrize(("count", "tolerance"), [(300, 1e-6), (65, 1e-6), (40, 1e-3), (3, 1e-3)])
def test_a_set_has_no_distance_to_itself(count, tolerance):
    features = sampled(np.random.RandomState(1), count, 64) / 4  # variances of 4
    features[:, 7] = 0.25  # a dead feature
    one = statistics_of(features)
    for form in (None, *frechet.FORMS):
        distance = frechet_distance(one, statistics_of(features), form=form, allow_singular=True)
        assert abs(distance) <= tolerance


# Singular covariances


@pytest.mark.parametrize("known", [True, False])
def test_as_many_images_as_features_are_refused_unless_allowed(known):
    features = sampled(np.random.RandomState(1), 64, 64)
    few, enough = statistics_of(features), statistics_of(sampled(np.random.RandomState(2), 65, 64))
    if not known:
        few, enough = (normal(one.mean, one.covariance, None) for one in (few, enough))
    assert is_singular(few)
    assert not is_singular(enough)
    for pair in ((few, enough), (enough, few)):
        with pytest.raises(
            UserError,
            match=r"64 images have a singular covariance of 64 features.*at least 65 images",
        ):
            frechet_distance(*pair)
    assert frechet_distance(few, enough, allow_singular=True) > 0


def test_the_rank_says_how_many_images_a_file_comes_from():
    features = sampled(np.random.RandomState(1), 20, 64)
    features[:, :3] = 0.5
    assert images_behind(statistics_of(features)) == 20
    assert images_behind(statistics_of(sampled(np.random.RandomState(1), 90, 64))) is None


def test_a_constant_feature_alone_is_not_singular():
    features = sampled(np.random.RandomState(1), 200, 16)
    features[:, 3] = 1
    other = statistics_of(sampled(np.random.RandomState(2), 200, 16))
    unknown = normal(statistics_of(features).mean, statistics_of(features).covariance, None)
    assert not is_singular(unknown)
    # The feature's part is its shift and the variance that the other set has.
    rest = [i for i in range(16) if i != 3]
    without = [
        normal(one.mean[rest], one.covariance[np.ix_(rest, rest)]) for one in (unknown, other)
    ]
    # No covariance of the feature with others in one set: its part is not separable in the other alone.
    expected = frechet_distance(*without) + (1 - other.mean[3]) ** 2 + other.covariance[3, 3]
    assert frechet_distance(unknown, other) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_agree_with_the_roots_that_the_tools_compute():
    pair = [statistics_of(sampled(np.random.RandomState(i), 40, 64)) for i in (1, 2)]
    found = [frechet_distance(*pair, form=f, allow_singular=True) for f in (None, *frechet.FORMS)]
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)
    assert len(set(found)) == 3  # three computations
    enough = [statistics_of(sampled(np.random.RandomState(i), 80, 64)) for i in (1, 2)]
    assert len({frechet_distance(*enough, form=form) for form in (None, *frechet.FORMS)}) == 1


def test_a_root_that_is_not_finite_gets_the_offset_of_pytorch_fid(monkeypatch):
    import scipy.linalg

    given, sqrtm = [], scipy.linalg.sqrtm

    def once(matrix):
        given.append(matrix)
        return sqrtm(matrix) if len(given) > 1 else np.full_like(matrix, np.nan)

    monkeypatch.setattr(scipy.linalg, "sqrtm", once)
    few = statistics_of(sampled(np.random.RandomState(1), 5, 8))
    frechet_distance(few, few, form="sqrtm", allow_singular=True)
    offset = np.eye(8) * 1e-6
    np.testing.assert_array_equal(given[1], (few.covariance + offset) @ (few.covariance + offset))


def test_what_is_no_covariance_and_no_pair_is_refused():
    whole = normal([0, 0], np.eye(2))
    with pytest.raises(UserError, match="negative eigenvalue"):
        frechet_distance(whole, normal([0, 0], [[1, 2], [2, 1]]))
    with pytest.raises(UserError, match="of 2 and of 1 features have no distance"):
        frechet_distance(whole, normal([0], [[1]]))
    with pytest.raises(UserError, match="unknown form 'sqrt'; known: eigenvalues, sqrtm"):
        frechet_distance(whole, whole, form="sqrt")


# Error and extrapolation


def test_the_standard_error_is_the_deviation_over_samples():
    real = statistics_of(sampled(np.random.RandomState(0), 4000, 6) + 0.2)
    random = np.random.RandomState(1)
    distances, errors = [], []
    for _ in range(300):
        features = sampled(random, 400, 6)
        own = statistics_of(features)
        distances.append(frechet_distance(own, real))
        errors.append(frechet_standard_error(features, own, real))
    # 300 deviations have a relative error of 1 / √600.
    assert np.mean(errors) == pytest.approx(np.std(distances), rel=0.15)


def test_fid_at_infinity_is_free_of_the_bias():
    width = 10
    truth = normal(np.zeros(width), np.eye(width))
    shifted = np.random.RandomState(4).normal(size=(3000, width)) + 0.1
    biased = frechet_distance(statistics_of(shifted[:300]), truth)
    found = frechet_distance_to_infinity(shifted, truth)
    assert abs(found.distance - 0.1) < 0.02 < biased - 0.1
    assert found.standard_error < 0.01
    assert found.images == tuple(np.linspace(300, 3000, 15).astype(int))
    assert found.distances[-1] == pytest.approx(frechet_distance(statistics_of(shifted), truth))
    assert found == frechet_distance_to_infinity(shifted, truth)


def test_a_line_of_exact_points_is_extrapolated_exactly(monkeypatch):
    line = iter([2 + 7 / n for n in (10, 55, 100)])
    monkeypatch.setattr(frechet, "frechet_distance", lambda *given, **options: next(line))
    found = frechet_distance_to_infinity(np.eye(100, 2), normal([0, 0], np.eye(2)), points=3)
    assert found.images == (10, 55, 100)
    assert found.distance == pytest.approx(2, rel=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("count", "points", "sentence"), [(20, 15, "needs more than"), (90, 2, "at least 3 points")]
)
def test_too_few_images_or_points_are_refused(count, points, sentence):
    features = sampled(np.random.RandomState(1), count, 8)
    with pytest.raises(UserError, match=sentence):
        frechet_distance_to_infinity(features, normal(np.zeros(8), np.eye(8)), points=points)


@pytest.mark.slow
def test_2048_features_take_less_than_20_seconds_of_two_processors():
    import resource

    random = np.random.RandomState(0)
    pair = [statistics_of(random.normal(size=(3000, 2048)).astype(np.float32)) for _ in "ab"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert frechet_distance(*pair) > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 40
