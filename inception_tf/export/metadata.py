# SPDX-License-Identifier: Apache-2.0
"""How an export was made and what was written: `assets.extra/export.json`, which TensorFlow Serving does not read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inception_tf.data.keras_options import KerasOptions
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.host.files import read_text
from inception_tf.host.json_fields import from_json
from inception_tf.ranges import PIXEL_LIMITS
from inception_tf.run_folder import Run
from inception_tf.savedmodel import fingerprint

__all__ = [
    "METADATA_FILE",
    "SUM",
    "Contents",
    "ExportMetadata",
    "Origin",
    "describe_contents",
    "read_metadata",
    "read_values",
    "sum_of_values",
    "sums_of_files",
    "write_metadata",
]

METADATA_FILE = "assets.extra/export.json"
SUM = "sha256"  # the key of the sum over all others


@dataclass(frozen=True)
class Origin:
    """The run folder or weights file that a network came from, with the checksum of its weights at export."""

    path: str  # run folder or weights file; absolute
    weights: str  # the file that the checksum is of; absolute
    sha256: str  # hexadecimal
    temperature: float = 1.0  # that the logits of the run were divided by
    labels: str | None = None  # the file of class names that was given; None: those of the run
    # The folder of the export, above its versions; absolute: where it was moved together with the run, the others
    # are found from it.  None: of an export before this was written.
    exported_to: str | None = None

    @classmethod
    def from_files(cls, path: str | Path, weights: str | Path, labels: str | None = None) -> Origin:
        """Computes the checksum of a weights file.

        Args:
            path: The run folder or weights file that the user named.
            weights: The file that holds the weights.
            labels: The file of class names that the user gave; None: those of the run.

        Returns:
            The origin to write into the metadata.
        """
        found, temperature = _sha256(weights), Run(Path(path)).temperature()
        # Absolute: `verify` may be called from another folder.
        names = labels and os.path.abspath(labels)
        return cls(os.path.abspath(path), os.path.abspath(weights), found, temperature, names)

    def find(self, folder: Path) -> Origin | None:
        """Finds the network again, also where its run and the export were moved or copied together.

        Args:
            folder: The version folder of the export.

        Returns:
            The origin with the paths that it has now; None where it does not exist or has changed.
        """
        return next((one for one in (self._moved(folder), self) if one.is_unchanged()), None)

    def find_labels(self, folder: Path) -> str | None:
        """Finds the file of class names again, as `find` does the network.

        Args:
            folder: The version folder of the export.

        Returns:
            Its path; None where none was given.
        """
        moved = self._moved(folder).labels
        return moved if moved and Path(moved).is_file() else self.labels

    def _moved(self, folder: Path) -> Origin:
        """Its paths, as seen from the export's folder, from where that is now."""
        if self.exported_to is None:
            return self
        now, then = os.path.abspath(folder.parent), self.exported_to

        def moved(path: str) -> str:
            return os.path.normpath(os.path.join(now, os.path.relpath(path, then)))

        labels = self.labels and moved(self.labels)
        return dataclasses.replace(
            self, path=moved(self.path), weights=moved(self.weights), labels=labels
        )

    def is_unchanged(self) -> bool:
        """Returns whether the weights file still exists with the same content, and the run's temperature is the same."""
        if not Path(self.weights).is_file() or _sha256(self.weights) != self.sha256:
            return False
        return Run(Path(self.path)).temperature() == self.temperature


@dataclass(frozen=True)
class Contents:
    """What an export wrote into the version folder."""

    labels: tuple[str, ...]  # K class names, in the order of the outputs
    top: int  # how many of the best classes a response lists
    signatures: tuple[str, ...]
    warm_up: int  # records of the warm-up log
    fingerprint: dict[str, str]  # TensorFlow's hashes of graph, signatures, objects and variables
    files: dict[str, str]  # path in the folder → SHA-256, of every file but the metadata


def describe_contents(
    folder: Path, labels: Sequence[str], signatures: Sequence[str], *, top: int, warm_up: int
) -> Contents:
    """Computes the checksums of a finished version folder.

    Args:
        folder: The SavedModel, complete but for the metadata.
        labels: K class names, in the order of the outputs.
        signatures: The names of its signatures.
        top: How many of the best classes a response lists.
        warm_up: Records of its warm-up log.

    Returns:
        What to write into the metadata.
    """
    return Contents(
        tuple(labels),
        top,
        tuple(signatures),
        warm_up,
        fingerprint.read_fingerprint(folder),
        sums_of_files(folder),
    )


def sums_of_files(folder: Path) -> dict[str, str]:
    """Computes the checksum of every file in a version folder but the metadata.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        Path in the folder → SHA-256, hexadecimal.
    """
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: _sha256(path) for name, path in names.items() if name != METADATA_FILE}


@dataclass(frozen=True)
class ExportMetadata:
    """The settings of an export and where its network came from."""

    network: str  # the Keras model's name
    preprocessing: Preprocessing
    precision: str  # float32, bfloat16 or float16
    pixel_limit: int  # height x width of the largest image that is read
    folded: bool  # batch normalization is folded into the convolutions
    origin: Origin | None
    environment: dict[str, str | None]  # versions, and the commit of the code
    features: int | None = None  # width of the feature vector; None: without the signature
    contents: Contents | None = None  # None: of an export before these were written
    multi_label: bool = (
        False  # the probabilities are independent of each other, and need not sum to 1
    )
    # Arguments of `create_model` that differ from the network's defaults; None: not known, as of a model of others.
    switches: Mapping[str, Any] | None = None
    # What its user said of a Keras model of another project.
    keras_options: KerasOptions | None = None


def write_metadata(folder: Path, metadata: ExportMetadata) -> None:
    """Writes `METADATA_FILE` into a SavedModel's folder, with a sum over what it says.

    Args:
        folder: The SavedModel, a version folder.
        metadata: What to write.
    """
    path = folder / METADATA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    values = dataclasses.asdict(metadata)
    values[SUM] = sum_of_values(values)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def sum_of_values(values: dict[str, Any]) -> str:
    """Computes the sum that metadata have of themselves.

    Args:
        values: The content of `METADATA_FILE`, as JSON gives it; its own sum is skipped.

    Returns:
        SHA-256, hexadecimal, of the values as JSON without spaces, with sorted keys.
    """
    others = {key: value for key, value in values.items() if key != SUM}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_values(folder: Path) -> dict[str, Any] | None:
    """Reads `METADATA_FILE` of a SavedModel as it is.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        Key → value; None where there is no such file.

    Raises:
        UserError: The file cannot be read, or is no JSON object.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise _foreign(path, error) from error
    if not isinstance(values, dict):
        raise _foreign(path, "no object")
    return values


def read_metadata(folder: Path) -> ExportMetadata | None:
    """Reads `METADATA_FILE` of a SavedModel.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        The metadata; None where another exporter made the SavedModel.

    Raises:
        UserError: The file cannot be read.
    """
    values = read_values(folder)
    if values is None:
        return None
    try:
        values.pop(SUM, None)
        # Exports of versions before this name of the field say `view`.
        if "view" in values:
            values["preprocessing"] = values.pop("view")
        found = from_json(ExportMetadata, values)
        Preprocessing.from_json(values["preprocessing"])  # that its values are allowed
        PIXEL_LIMITS.check("pixel_limit", found.pixel_limit)
        if found.contents and found.contents.fingerprint.keys() != set(fingerprint.HASHES):
            raise ValueError("TensorFlow's hashes are others")
    except (ValueError, TypeError) as error:
        raise _foreign(folder / METADATA_FILE, error) from error
    return found


def _foreign(path: Path, why: object) -> UserError:
    return UserError(f"{path} is not what export writes ({why}); export it again")


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
