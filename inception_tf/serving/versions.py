# SPDX-License-Identifier: Apache-2.0
"""Numbered version folders, as TensorFlow Serving looks for them under a model's folder."""

from __future__ import annotations

from pathlib import Path

from inception_tf.errors import UserError

__all__ = ["GRAPH_FILE", "newest_version", "versions"]

GRAPH_FILE = "saved_model.pb"


def versions(folder: Path) -> dict[int, Path]:
    """{number: path} of what TensorFlow Serving would take for versions: children whose name is a number."""
    names = (path for path in folder.iterdir() if path.name.isascii() and path.name.isdecimal())
    return {int(path.name): path for path in names}


def newest_version(path: str | Path) -> Path:
    """The folder of one SavedModel: `path` itself, or the highest number under it.

    Raises `UserError` where `path` is no folder, has no version, or the version is no SavedModel.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"'{path}' is not a folder; give saved_models/NAME or saved_models/NAME/VERSION"
        )
    if (path / GRAPH_FILE).is_file():
        return path
    numbered = versions(path)
    if not numbered:
        raise UserError(
            f"'{path}' has neither a {GRAPH_FILE} nor a numbered version folder;"
            f" make one with: inception-tf export RUN --to {path}"
        )
    newest = numbered[max(numbered)]
    if not (newest / GRAPH_FILE).is_file():
        raise UserError(f"'{newest}' is not a SavedModel, it has no {GRAPH_FILE}; export it again")
    return newest
