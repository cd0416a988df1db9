# SPDX-License-Identifier: Apache-2.0
"""Mean and covariance of features: summed batch by batch in float64, and read from and written to `.npz` files."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.atomic_io import atomic_path
from inception_tf.weights.formats.npz import read_npz
from inception_tf.weights.formats.stored import NOTHING, shown_name

__all__ = ["FeatureStatistics", "Notes"]

MOST_FEATURES = 8192  # of a file; its covariance takes 512 MiB
LONGEST_NOTE = 1000  # letters
# Of the largest variance: what a covariance saved in float32 may be off its transpose.
ASYMMETRY = 1e-5


@dataclass(frozen=True)
class Notes:
    """What statistics were computed with, as their file says; None where it does not say."""

    tap: str | None = None  # 64, 192, 768, 2048 or logits
    tool: str | None = None  # whose resize and scale: a name of `CONVENTIONS`
    weights: str | None = None  # the SHA-256 sum of the weights

    def differences(self, other: Notes) -> tuple[str, ...]:
        """Why two statistics are not comparable, as far as their notes tell.

        Args:
            other: The notes of the other statistics.

        Returns:
            One phrase per note that both have and that differs, such as "the tap is 2048 and 768".
        """
        pairs = [
            (field.name, getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
        ]
        return tuple(
            f"{'the sum of the weights' if name == 'weights' else f'the {name}'} is {one} and {two}"
            for name, one, two in pairs
            if None not in (one, two) and one != two
        )


class FeatureStatistics:
    """Mean and covariance of a set of features, in float64, in memory that does not depend on their number.

    Batches are merged by the update of Chan, Golub and LeVeque (1979), which loses no digits where the mean is
    large beside the deviations, as a sum of squares does.

    Args:
        notes: What the features were computed with.

    Example:

        statistics = FeatureStatistics()
        for batch in batches:  # float32 (N, 2048)
            statistics.update(batch)
        statistics.write(Path("train.npz"))
    """

    def __init__(self, notes: Notes | None = None) -> None:
        self.notes = notes or Notes()
        self.count: int | None = 0  # None: read from a file that does not say it
        self._mean: np.ndarray | None = None
        self._scatter: np.ndarray | None = None  # the sum of the outer products of deviations
        self._covariance: np.ndarray | None = None  # of a file without a count

    def __repr__(self) -> str:
        images = "an unknown number of" if self.count is None else f"{self.count:,}"
        return f"FeatureStatistics({self.features} features of {images} images)"

    @property
    def features(self) -> int:
        """The number of features, D; 0 before the first batch."""
        return 0 if self._mean is None else len(self._mean)

    @property
    def mean(self) -> np.ndarray:
        """(D,) float64."""
        if self._mean is None:
            raise UserError("statistics of no images have no mean; there must be at least 2 images")
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """(D, D) float64, the sum of the outer products of deviations divided by N - 1."""
        if self._covariance is not None:
            return self._covariance
        if self._scatter is None or self.count is None or self.count < 2:
            raise UserError(
                f"the covariance of {self.count} {'image' if self.count == 1 else 'images'} is not defined;"
                " there must be at least 2 images"
            )
        return self._scatter / (self.count - 1)

    @classmethod
    def of(
        cls, mean: np.ndarray, covariance: np.ndarray, count: int | None, notes: Notes | None = None
    ) -> FeatureStatistics:
        """Statistics that are known.

        Args:
            mean: (D,).
            covariance: (D, D), symmetric.
            count: The number of images; None where it is unknown.
            notes: What the features were computed with.

        Returns:
            The statistics; without a count they cannot be updated.
        """
        made = cls(notes)
        made.count = count
        made._mean = np.array(mean, np.float64)
        covariance = np.array(covariance, np.float64)
        if count is None:
            made._covariance = covariance
        else:
            made._scatter = covariance * (count - 1)
        return made

    def update(self, features: np.ndarray) -> None:
        """Adds the features of a batch.

        Args:
            features: (N, D), any real dtype; N may be 0.

        Raises:
            UserError: Another shape, NaN or infinity.
        """
        features = np.asarray(features)
        if features.ndim != 2 or (self.features and features.shape[1] != self.features):
            wanted = f"(N, {self.features})" if self.features else "(N, D)"
            raise UserError(f"features must have the shape {wanted}, got {features.shape}")
        if not len(features):
            return
        features = features.astype(np.float64)
        mean = features.mean(axis=0)
        if not np.isfinite(mean).all():
            raise UserError(
                "the features of a batch have NaN or infinity, which no statistics have; check the weights"
            )
        deviations = features - mean
        self._add(len(features), mean, deviations.T @ deviations)

    def merge(self, other: FeatureStatistics) -> None:
        """Adds the images of other statistics, as if their features had been given to `update`.

        Args:
            other: Statistics of the same features; they are not changed.

        Raises:
            UserError: Another number of features, or one of both does not know its number of images.
        """
        if other.count == 0:
            return
        if self.features and self.features != other.features:
            raise UserError(
                f"statistics of {self.features} and of {other.features} features cannot be merged"
            )
        if other.count is None or other._scatter is None:
            raise UserError(
                "statistics from a file that does not say its number of images cannot be merged"
            )
        self._add(other.count, other.mean, other._scatter)

    def _add(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if self.count is None:
            raise UserError(
                "statistics from a file that does not say its number of images cannot be added to"
            )
        if self._mean is None or self._scatter is None:
            self.count, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        total = self.count + count
        step = mean - self._mean
        # In place: at 2,048 features a copy of the matrix takes longer than the product of a batch.
        self._scatter += scatter
        self._scatter += np.outer(step * (self.count * count / total), step)
        self._mean = self._mean + step * (count / total)
        self.count = total

    def write(self, path: Path) -> None:
        """Writes `mu`, `sigma` and the notes, completely or not at all.

        The tools of others read `mu` and `sigma` and ignore the rest.

        Args:
            path: A file that ends in .npz.

        Raises:
            UserError: Another ending, or fewer than 2 images.
        """
        if path.suffix != ".npz":
            raise UserError(f"'{path}' must end in .npz, which is how FID's tools know statistics")
        arrays: dict[str, np.ndarray] = {"mu": self.mean, "sigma": self.covariance}
        if self.count is not None:
            arrays["count"] = np.array(self.count, np.int64)
        notes = dataclasses.asdict(self.notes)
        arrays |= {name: np.array(note, str) for name, note in notes.items() if note is not None}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FeatureStatistics:
        """Reads statistics of any tool that writes `mu` and `sigma`.

        Args:
            path: A `.npz` file, of pytorch-fid, clean-fid, the original FID code or `write`.

        Returns:
            The statistics, with the count and the notes that the file has.

        Raises:
            UserError: The file is damaged, or its arrays are no mean and no covariance.
        """
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise UserError(f"no statistics file at '{path}'; give a .npz file with mu and sigma")
        claimed = read_npz(path, NOTHING)
        _check_shapes(path, claimed)
        wanted = {"mu", "sigma", "count", *(field.name for field in dataclasses.fields(Notes))}
        found = {name: a for name, a in read_npz(path, wanted).items() if name in wanted}
        mean, covariance = (found[name].astype(np.float64) for name in ("mu", "sigma"))
        _check_values(path, mean, covariance)
        notes = Notes(**{f.name: _note(path, found, f.name) for f in dataclasses.fields(Notes)})
        return cls.of(mean, (covariance + covariance.T) / 2, _count(path, found), notes)


def _check_shapes(path: str, claimed: dict[str, np.ndarray]) -> None:
    """The shapes, before anything of the file is unpacked."""
    missing = [name for name in ("mu", "sigma") if name not in claimed]
    if missing:
        names = ", ".join(map(shown_name, list(claimed)[:8])) or "nothing"
        raise UserError(
            f"'{path}' has no {' and no '.join(missing)} but {names}; give a statistics file, which has both"
        )
    shapes = {name: claimed[name].shape for name in ("mu", "sigma")}
    features = shapes["mu"][0] if len(shapes["mu"]) == 1 else 0
    if not features or shapes["sigma"] != (features, features):
        raise UserError(
            f"mu and sigma in '{path}' have the shapes {shapes['mu']} and {shapes['sigma']};"
            " they must be (D,) and (D, D)"
        )
    if features > MOST_FEATURES:
        raise UserError(
            f"'{path}' has statistics of {features:,} features; at most {MOST_FEATURES:,} are read"
        )
    for name in ("mu", "sigma"):
        if claimed[name].dtype.kind not in "fiu":
            raise UserError(
                f"{name} in '{path}' has the type {claimed[name].dtype}; it must have real numbers"
            )
    for field in dataclasses.fields(Notes):
        note = claimed.get(field.name)
        if note is not None and (note.dtype.kind != "U" or note.nbytes > 4 * LONGEST_NOTE):
            raise UserError(
                f"the note '{field.name}' in '{path}' must be a text of at most {LONGEST_NOTE} letters"
            )


def _check_values(path: str, mean: np.ndarray, covariance: np.ndarray) -> None:
    for name, array in (("mu", mean), ("sigma", covariance)):
        if not np.isfinite(array).all():
            raise UserError(
                f"{name} in '{path}' has NaN or infinity; give a complete, undamaged file"
            )
    largest = np.abs(covariance).max()
    if np.abs(covariance - covariance.T).max() > ASYMMETRY * largest:
        raise UserError(f"sigma in '{path}' is not symmetric, as every covariance is")
    if (np.diagonal(covariance) < 0).any():
        raise UserError(f"sigma in '{path}' has negative variances, which no features have")


def _count(path: str, found: dict[str, np.ndarray]) -> int | None:
    if "count" not in found:
        return None
    count = found["count"]
    if count.shape != () or count.dtype.kind not in "iu" or not 2 <= int(count) < 2**53:
        raise UserError(f"the count in '{path}' must be an integer of at least 2 images")
    return int(count)


def _note(path: str, found: dict[str, np.ndarray], name: str) -> str | None:
    if name not in found:
        return None
    if found[name].shape != ():
        raise UserError(f"the note '{name}' in '{path}' must be one text")
    return shown_name(str(found[name]))
