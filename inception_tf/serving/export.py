# SPDX-License-Identifier: Apache-2.0
"""A Keras model and its labels into a numbered SavedModel folder, which appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.data.labels import write_labels
from inception_tf.errors import UserError
from inception_tf.optimize import fold_batch_norm
from inception_tf.serving import warmup
from inception_tf.serving.signatures import ServingModule
from inception_tf.serving.versions import versions

__all__ = ["export"]

VERSION_LIMIT = 2**63  # TensorFlow Serving reads versions as int64


def export(
    model: keras.Model,
    labels: Sequence[str],
    to: str | Path,
    *,
    size: int,
    crop: float | None = 0.875,
    version: int | None = None,
    top: int = 5,
    fold: bool = True,
) -> Path:
    """Writes `to/<version>` and returns its path; `version=None` takes the number after the highest.

    model: (N, size, size, 3) floats from -1 to 1 → (N, K) probabilities, or a dict with these as
    `predictions`; its auxiliary classifiers and its optimizer are left out.  labels: K names.
    size: pixels that the network reads.  crop: share of each side, in the middle, that is read; None: all.
    top: how many of the best classes are named, at most K.  fold: batch normalization into the
    convolutions, which changes probabilities by less than 1e-4.
    Raises `UserError` for an argument outside its range and for a version that is there already.
    """
    warmup.check_installed()
    labels, to = tuple(labels), Path(to)
    _check_settings(size, crop, top, version)
    network = _network(model, size)
    _check_labels(labels, network.output_shape[-1])
    fresh = not to.exists()
    _check_folder(to, version)
    if fold:
        network = fold_batch_norm(network)

    to.mkdir(parents=True, exist_ok=True)
    # Not a number, so that a server that watches `to` does not see it; beside its end, so that one rename moves it.
    building = Path(tempfile.mkdtemp(prefix=".export-", dir=to))
    try:
        _save(network, labels, building / "model", size=size, crop=crop, top=min(top, len(labels)))
        warmup.write(building / "model", to.name)
        return _publish(building / "model", to, version)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if fresh:
            with contextlib.suppress(OSError):  # it holds a version
                to.rmdir()


def _save(network, labels, folder, **settings) -> None:
    # The label file's first path is kept as the table's name in the graph: a random one keeps apart
    # the tables of two models in one process.
    with tempfile.TemporaryDirectory() as scratch:
        write_labels(Path(scratch, "labels.txt"), labels)
        module = ServingModule(network, str(Path(scratch, "labels.txt")), **settings)
        tf.saved_model.save(module, str(folder), signatures=module.signatures())


def _publish(built: Path, to: Path, version: int | None) -> Path:
    """Moves the finished folder under its number; where another export just took it, under the next."""
    number = version or _next(to)
    while True:
        target = to / str(number)
        try:
            os.rename(built, target)
            return target
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise _taken(to, version) from error
            number += 1


def _next(to: Path) -> int:
    return max(versions(to), default=0) + 1


def _taken(to: Path, version: int) -> UserError:
    return UserError(
        f"version {version} is in '{to}' already; leave the version out for the next, {_next(to)}"
    )


def _network(model: keras.Model, size: int) -> keras.Model:
    """The way from the image to the probabilities, without auxiliary classifiers."""
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise UserError(
            f"export needs a functional model with one input; '{model.name}' is not one"
        )
    output = model.output
    if isinstance(output, dict):
        output = output.get("predictions")
    if not keras.utils.is_keras_tensor(output) or len(output.shape) != 2:
        raise UserError(
            f"export needs (N, classes) probabilities, alone or as 'predictions'; '{model.name}'"
            f" gives {model.output}"
        )
    wanted = (size, size, 3)
    takes = tuple(model.inputs[0].shape[1:])
    if len(takes) != 3 or any(a is not None and a != b for a, b in zip(takes, wanted, strict=True)):
        raise UserError(
            f"'{model.name}' takes images of {takes}, not {wanted}; export it with its own size"
        )
    return keras.Model(model.inputs, output, name=model.name)


def _check_labels(labels: tuple[str, ...], classes: int) -> None:
    if len(labels) != classes:
        raise UserError(
            f"{len(labels)} labels for {classes} classes; give one label a class, in order"
        )
    for label in labels:
        if not isinstance(label, str) or label.splitlines() != [label]:
            raise UserError(f"label {label!r} is not one line of text; give each class a name")


def _check_folder(to: Path, version: int | None) -> None:
    if to.exists() and not to.is_dir():
        raise UserError(f"'{to}' is a file; give the folder that holds the versions")
    if version is not None and to.exists() and version in versions(to):
        raise _taken(to, version)


def _check_settings(size: int, crop: float | None, top: int, version: int | None) -> None:
    for name, value in (
        ("size", size),
        ("top", top),
        ("version", 1 if version is None else version),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < VERSION_LIMIT:
            raise UserError(f"{name} takes a whole number of at least 1, got {value!r}")
    if crop is not None and not (isinstance(crop, int | float) and 0 < crop <= 1):
        raise UserError(
            f"crop takes a share of each side above 0 and up to 1, or None, got {crop!r}"
        )
