# SPDX-License-Identifier: Apache-2.0
"""How an export was made: `assets.extra/export.json`, which TensorFlow Serving does not read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.host.files import read_text
from inception_tf.run_folder import Run

__all__ = ["METADATA_FILE", "Origin", "ExportMetadata", "read_metadata", "write_metadata"]

METADATA_FILE = "assets.extra/export.json"


@dataclass(frozen=True)
class Origin:
    """The run folder or weights file that a network came from, with the checksum of its weights at export."""

    path: str  # run folder or weights file
    weights: str  # the file that the checksum is of
    sha256: str  # hexadecimal
    temperature: float = 1.0  # that the logits of the run were divided by

    @classmethod
    def from_files(cls, path: str | Path, weights: str | Path) -> Origin:
        """Computes the checksum of a weights file.

        Args:
            path: The run folder or weights file that the user named.
            weights: The file that holds the weights.

        Returns:
            The origin to write into the metadata.
        """
        return cls(str(path), str(weights), _sha256(weights), Run(Path(path)).temperature())

    def is_unchanged(self) -> bool:
        """Returns whether the weights file still exists with the same content, and the run's temperature is the same."""
        if not Path(self.weights).is_file() or _sha256(self.weights) != self.sha256:
            return False
        return Run(Path(self.path)).temperature() == self.temperature


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


def write_metadata(folder: Path, metadata: ExportMetadata) -> None:
    """Writes `METADATA_FILE` into a SavedModel's folder.

    Args:
        folder: The SavedModel, a version folder.
        metadata: What to write.
    """
    path = folder / METADATA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(metadata), indent=2) + "\n", encoding="utf-8")


def read_metadata(folder: Path) -> ExportMetadata | None:
    """Reads `METADATA_FILE` of a SavedModel.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        The metadata; None where another exporter made the SavedModel.

    Raises:
        UserError: The file cannot be read.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(read_text(path))
        origin = values["origin"] and Origin(**values["origin"])
        # Exports of versions before this name of the field say `view`.
        prepared = values.pop("view", None) or values["preprocessing"]
        return ExportMetadata(
            **values | {"preprocessing": Preprocessing(**prepared), "origin": origin}
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not what export writes ({error}); export it again") from error


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
