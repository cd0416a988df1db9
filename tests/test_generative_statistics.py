# SPDX-License-Identifier: Apache-2.0
"""Mean and covariance, batch by batch, and their files."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
import ramps

from inception_tf import UserError
from inception_tf.generative import FeatureStatistics, statistics
from inception_tf.generative.statistics import Notes

NOTES = Notes("64", "clean-fid", "f00d")


def features(count: int, width: int = 12, offset: float = 0.0) -> np.ndarray:
    return (ramps.uniform("features", (count, width)) + np.float32(offset)).astype(np.float32)


def statistics_of(*batches: np.ndarray, notes: Notes | None = None) -> FeatureStatistics:
    made = FeatureStatistics(notes)
    for batch in batches:
        made.update(batch)
    return made


@pytest.mark.parametrize("offset", [0.0, 1e4], ids=["around zero", "far from zero"])
def test_batches_give_what_two_passes_over_all_give(offset):
    every = features(1000, offset=offset).astype(np.float64)
    found = statistics_of(*np.split(every, [1, 2, 500, 500, 999]))
    assert (found.count, found.features) == (1000, 12)
    np.testing.assert_allclose(found.mean, every.mean(axis=0), rtol=1e-12, atol=1e-12)
    expected = np.cov(every, rowvar=False)
    # Deviations from a mean of 1e4 have themselves 12 digits.
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-12, atol=1e-12 * max(1, offset))


def test_merged_statistics_are_those_of_all_images():
    parts = np.split(features(300), [120, 121])
    merged = FeatureStatistics()
    for part in map(statistics_of, parts):
        before = part.covariance.copy() if part.count > 1 else None
        merged.merge(part)
        if before is not None:
            np.testing.assert_array_equal(part.covariance, before)
    merged.merge(FeatureStatistics())
    whole = statistics_of(features(300))
    assert merged.count == 300
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12, atol=1e-14)


def test_memory_does_not_grow_with_the_images():
    found = statistics_of(features(10))
    arrays = {name: a.nbytes for name, a in vars(found).items() if isinstance(a, np.ndarray)}
    for _ in range(20):
        found.update(features(100))
    assert arrays == {n: a.nbytes for n, a in vars(found).items() if isinstance(a, np.ndarray)}


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (np.zeros(12), r"must have the shape \(N, 12\), got \(12,\)"),
        (np.zeros((3, 11)), r"must have the shape \(N, 12\), got \(3, 11\)"),
        (np.full((3, 12), np.nan), "NaN or infinity"),
        (np.full((3, 12), np.inf), "NaN or infinity"),
    ],
)
def test_a_wrong_batch_is_refused_and_changes_nothing(batch, sentence):
    found = statistics_of(features(5))
    before = found.covariance.copy()
    with pytest.raises(UserError, match=sentence):
        found.update(batch)
    assert found.count == 5
    np.testing.assert_array_equal(found.covariance, before)


def test_fewer_than_two_images_have_no_covariance():
    with pytest.raises(UserError, match="no images have no mean"):
        _ = FeatureStatistics().mean
    with pytest.raises(UserError, match="covariance of 1 image is not defined"):
        _ = statistics_of(features(1)).covariance


# Files


def test_a_file_keeps_values_and_notes_and_others_read_it(tmp_path):
    written = statistics_of(features(50), notes=NOTES)
    written.write(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as theirs:  # as pytorch-fid and clean-fid read
        np.testing.assert_array_equal(theirs["mu"], written.mean)
        np.testing.assert_array_equal(theirs["sigma"], written.covariance)
    found = FeatureStatistics.read(tmp_path / "a.npz")
    assert (found.count, found.notes) == (50, NOTES)
    np.testing.assert_array_equal(found.mean, written.mean)
    found.update(features(30))
    assert found.count == 80
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_file_of_another_tool_has_no_count_and_cannot_be_added_to(tmp_path):
    whole = statistics_of(features(50))
    np.savez_compressed(
        tmp_path / "a.npz", mu=whole.mean.astype(np.float32), sigma=whole.covariance, arr_0=[1.0]
    )
    found = FeatureStatistics.read(tmp_path / "a.npz")
    assert (found.count, found.notes) == (None, Notes())
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-6)
    for change in (lambda: found.update(features(2)), lambda: whole.merge(found)):
        with pytest.raises(UserError, match="does not say its number of images"):
            change()
    found.write(tmp_path / "b.npz")
    assert FeatureStatistics.read(tmp_path / "b.npz").count is None


def test_notes_that_differ_are_named():
    assert NOTES.differences(Notes("2048", None, "beef")) == (
        "the tap is 64 and 2048",
        "the sum of the weights is f00d and beef",
    )
    assert NOTES.differences(NOTES) == NOTES.differences(Notes()) == ()


MU, SIGMA = np.zeros(3), np.eye(3)
NOT_A_NUMBER, LOPSIDED, NEGATIVE = SIGMA.copy(), SIGMA.copy(), SIGMA.copy()
NOT_A_NUMBER[1, 1], LOPSIDED[0, 1], NEGATIVE[2, 2] = np.nan, 0.5, -1


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"mu": MU}, "has no sigma but mu"),
        ({"feats": MU}, "has no mu and no sigma but feats"),
        ({}, "has no mu and no sigma but nothing"),
        ({"mu": MU, "sigma": np.eye(4)}, r"shapes \(3,\) and \(4, 4\)"),
        ({"mu": SIGMA, "sigma": SIGMA}, r"shapes \(3, 3\) and \(3, 3\)"),
        ({"mu": np.float64(1), "sigma": np.float64(1)}, "they must be"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "they must be"),
        ({"mu": MU * np.nan, "sigma": SIGMA}, "mu in .* has NaN"),
        ({"mu": MU, "sigma": NOT_A_NUMBER}, "sigma in .* has NaN"),
        ({"mu": MU, "sigma": LOPSIDED}, "not symmetric"),
        ({"mu": MU, "sigma": NEGATIVE}, "negative variances"),
        ({"mu": MU + 1j, "sigma": SIGMA}, "mu in .* must have real numbers"),
        ({"mu": MU, "sigma": np.full((3, 3), "1")}, "sigma in .* must have real numbers"),
        ({"mu": np.array([None] * 3), "sigma": SIGMA}, "objects, which can run code"),
        ({"mu": MU, "sigma": SIGMA, "count": 1}, "count in .* at least 2"),
        ({"mu": MU, "sigma": SIGMA, "count": 2.5}, "count in .* at least 2"),
        ({"mu": MU, "sigma": SIGMA, "tap": 64}, "the note 'tap' in .* must be a text"),
        ({"mu": MU, "sigma": SIGMA, "tool": "x" * 2000}, "the note 'tool' in .* at most 1000"),
        ({"mu": MU, "sigma": SIGMA, "tap": np.array(["64"])}, "the note 'tap' in .* one text"),
    ],
)
def test_arrays_that_are_no_statistics_are_refused(tmp_path, arrays, sentence):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=sentence):
        FeatureStatistics.read(path)


def bomb(path):
    """Claims far more features than it has bytes for, in 4 kB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("mu", (10**5,)), ("sigma", (10**5, 10**5))):
            header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
            header = header.ljust(117) + "\n"
            content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
            archive.writestr(f"{name}.npy", content)


def cut(path):
    np.savez(path, mu=MU, sigma=SIGMA)
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path):
    np.savez(path, mu=MU, sigma=SIGMA)
    content = bytearray(path.read_bytes())
    content[content.index(np.eye(3).tobytes()) + 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (bomb, "do not fit its shape"),
        (cut, "is damaged or not a .npz file"),
        (flipped, "is damaged or not a .npz file"),
        (lambda path: path.write_bytes(b"no archive"), "is damaged or not a .npz file"),
        (lambda path: None, "no statistics file at"),
        (os.mkdir, "no statistics file at"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused(tmp_path, damage, sentence):
    path = tmp_path / "a.npz"
    damage(path)
    with pytest.raises(UserError, match=sentence):
        FeatureStatistics.read(path)


def test_statistics_of_more_features_than_any_network_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "MOST_FEATURES", 2)
    np.savez(tmp_path / "a.npz", mu=MU, sigma=SIGMA)
    with pytest.raises(UserError, match="3 features; at most 2 are read"):
        FeatureStatistics.read(tmp_path / "a.npz")


def test_only_npz_is_written(tmp_path):
    with pytest.raises(UserError, match=r"must end in .npz"):
        statistics_of(features(5)).write(tmp_path / "a.npy")
