# SPDX-License-Identifier: Apache-2.0
"""A path that a user gives, a run folder or a weights file, as a network that can be evaluated."""

from __future__ import annotations

from pathlib import Path

from inception_tf.applications import create_model
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.evaluation.scores import Member
from inception_tf.models import find
from inception_tf.training.run import Run
from inception_tf.weights.view import read_view

__all__ = ["open_member", "open_run"]


def open_member(path: str, *, model: str | None, labels: tuple[str, ...]) -> Member:
    """A run folder by itself, or a weights file of the network `model` for the classes `labels`.

    A file that was converted or fetched states its preprocessing; any other is taken for slim's.
    """
    if Path(path).is_dir():
        return open_run(path)
    if not Path(path).exists():
        raise UserError(f"there is no {path}; give a run folder or a weights file")
    if model is None:
        raise UserError(f"{path} is a weights file; say with --model which network it belongs to")
    network = find(model)
    built = create_model(model, classes=len(labels), weights=path)
    return Member(path, built, labels, read_view(path) or Preprocessing(network.size))


def open_run(path: str | Path) -> Member:
    """The trained network of a run folder with the view of the images that its configuration gives it."""
    run = Run(Path(path))
    config = run.config()
    return Member(str(path), run.model(), run.labels(), Preprocessing(run.size(), config.data.crop))
