# SPDX-License-Identifier: Apache-2.0
"""A Keras model and its labels into a numbered SavedModel folder, which appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data.headers import PIXEL_LIMIT
from inception_tf.data.labels import write_labels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.device import environment
from inception_tf.errors import UserError, unknown
from inception_tf.optimize import PRECISIONS, in_precision, optimize_for_inference
from inception_tf.serving import handout, warmup
from inception_tf.serving.record import Origin, Record
from inception_tf.serving.record import write as write_record
from inception_tf.serving.signatures import CONTRACT, ServingModule
from inception_tf.serving.versions import versions

__all__ = ["export"]

VERSION_LIMIT = 2**63  # TensorFlow Serving reads versions as int64
WARM_UP = (1, 4, 8)  # images of a request; the server is slow at the first one of each signature


def export(
    model: keras.Model,
    labels: Sequence[str],
    to: str | Path,
    view: Preprocessing,
    *,
    version: int | None = None,
    top: int = 5,
    precision: str = "float32",
    pixel_limit: int = PIXEL_LIMIT,
    fold: bool = True,
    warm_up: Sequence[int] = WARM_UP,
    origin: Origin | None = None,
) -> Path:
    """Writes `to/<version>` and returns its path; `version=None` takes the number after the highest.

    model: (N, size, size, 3) floats, scaled as `view` says → (N, K) probabilities, or a dict with these as
    `predictions`; its auxiliary classifiers, its dropout and its optimizer are left out.  labels: K names.
    top: how many of the best classes are named, at most K.  precision: of feature maps and weights, float32,
    bfloat16 or float16; outputs are float32.  pixel_limit: height x width of the largest image that is read.
    fold: batch normalization into the convolutions, and what else `optimize_for_inference` does, which
    changes probabilities by less than 1e-4.  warm_up:
    images a request in the warm-up log.  origin: where the weights came from, for `verify`.
    Raises `UserError` for an argument outside its range and for a version that is there already; warns of
    weights that no training has touched.
    """
    warmup.check_installed()
    labels, to = tuple(labels), Path(to)
    _check_settings(view, top, version, precision, pixel_limit, warm_up)
    network = _network(model, view.size)
    _check_labels(labels, network.output_shape[-1])
    fresh = not to.exists()
    _check_folder(to, version)
    if _is_untrained(network):
        warnings.warn(
            f"'{model.name}' is untrained: its weights are as they were first drawn", stacklevel=2
        )
    prepared = optimize_for_inference if fold else in_precision
    network = prepared(network, precision)
    record = Record(model.name, view, precision, pixel_limit, fold, origin, environment())

    to.mkdir(parents=True, exist_ok=True)
    # Not a number, so that a server that watches `to` does not see it; beside its end, so that one rename moves it.
    building = Path(tempfile.mkdtemp(prefix=".export-", dir=to))
    try:
        built, notes = building / "model", building / "notes"
        settings = {"top": min(top, len(labels)), "pixel_limit": pixel_limit}
        _save(network, labels, built, view, **settings)
        write_record(built, record)
        warmup.write(built, to.name, warm_up)
        notes.mkdir()
        handout.write(notes, to.absolute().name, len(labels), record)
        folder = _publish(built, to, version)
        for note in notes.iterdir():
            if not (to / note.name).exists():  # somebody's edits are kept
                note.replace(to / note.name)
        return folder
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if fresh:
            with contextlib.suppress(OSError):  # it holds a version
                to.rmdir()


def _save(network, labels, folder, view, **settings) -> None:
    # The label file's first path is kept as the table's name in the graph: a random one keeps apart
    # the tables of two models in one process.
    with tempfile.TemporaryDirectory() as scratch:
        write_labels(Path(scratch, "labels.txt"), labels)
        module = ServingModule(network, str(Path(scratch, "labels.txt")), view, **settings)
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


def _is_untrained(network: keras.Model) -> bool:
    """Is every bias, shift, mean and variance still one number for all channels, as layers begin?"""
    names = {"bias", "beta", "gamma", "moving_mean", "moving_variance"}
    vectors = [
        keras.ops.convert_to_numpy(v)
        for v in network.variables
        if v.name in names and v.shape[0] > 1
    ]
    return bool(vectors) and all(np.ptp(vector) == 0 for vector in vectors)


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


def _check_settings(view, top, version, precision, pixel_limit, warm_up) -> None:
    numbers = {
        "size": view.size,
        "top": top,
        "version": 1 if version is None else version,
        "pixel_limit": pixel_limit,
    }
    for name, value in [*numbers.items(), *(("warm_up", batch) for batch in warm_up)]:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < VERSION_LIMIT:
            raise UserError(f"{name} takes a whole number of at least 1, got {value!r}")
    requests = len(warm_up) * len(CONTRACT)
    if not 0 < requests <= warmup.RECORD_LIMIT:
        raise UserError(
            f"warm_up takes 1 to {warmup.RECORD_LIMIT // len(CONTRACT)} batch sizes, got {len(warm_up)}"
        )
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    crop = view.crop
    if crop is not None and not (isinstance(crop, int | float) and 0 < crop <= 1):
        raise UserError(
            f"crop takes a share of each side above 0 and up to 1, or None, got {crop!r}"
        )
