# SPDX-License-Identifier: Apache-2.0
"""How an export was made, kept beside it in `assets.extra/export.json`, which TensorFlow Serving does not read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError

__all__ = ["METADATA_FILE", "Origin", "ExportMetadata", "read_metadata", "write_metadata"]

METADATA_FILE = "assets.extra/export.json"


@dataclass(frozen=True)
class Origin:
    """The run folder or weights file that a network came from, and the SHA-256 sum of its weights then."""

    path: str
    weights: str  # the file that the sum is of
    sha256: str

    @classmethod
    def of(cls, path: str | Path, weights: str | Path) -> Origin:
        return cls(str(path), str(weights), _sum(weights))

    def is_unchanged(self) -> bool:
        """Is the file still there, with the same content?"""
        return Path(self.weights).is_file() and _sum(self.weights) == self.sha256


@dataclass(frozen=True)
class ExportMetadata:
    """The settings of an export and where its network came from."""

    network: str  # the Keras model's name
    preprocessing: Preprocessing
    precision: str
    pixel_limit: int
    folded: bool
    origin: Origin | None
    environment: dict[str, str | None]  # versions, and the commit of the code


def write_metadata(folder: Path, record: ExportMetadata) -> None:
    path = folder / METADATA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(record), indent=2) + "\n", encoding="utf-8")


def read_metadata(folder: Path) -> ExportMetadata | None:
    """None where another exporter made the SavedModel; `UserError` where the file cannot be read."""
    path = folder / METADATA_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        origin = values["origin"] and Origin(**values["origin"])
        # Exports of versions before this name of the field say `view`.
        prepared = values.pop("view", None) or values["preprocessing"]
        return ExportMetadata(
            **values | {"preprocessing": Preprocessing(**prepared), "origin": origin}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what export writes ({error}); export it again") from error


def _sum(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
