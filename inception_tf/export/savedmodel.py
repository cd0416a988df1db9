# SPDX-License-Identifier: Apache-2.0
"""A Keras model and its labels into a numbered SavedModel folder, which appears whole or not at all."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.data.decoding.validation import PIXEL_LIMIT
from inception_tf.data.labels import write_labels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.export import model_readme, warmup
from inception_tf.export.metadata import ExportMetadata, Origin
from inception_tf.export.metadata import write_metadata as write_record
from inception_tf.export.served_network import check_labels, is_untrained, served_network
from inception_tf.export.signatures import CONTRACT, ServingModule
from inception_tf.host.environment import environment
from inception_tf.inference.optimize import PRECISIONS, in_precision, optimize_for_inference
from inception_tf.savedmodel.versions import (
    VERSION_LIMIT,
    atomic_version,
    check_version_free,
    publish_version,
)

__all__ = ["export"]

WARM_UP = (1, 4, 8)  # images of a request; the server is slow at the first one of each signature


def export(
    model: keras.Model,
    labels: Sequence[str],
    to: str | Path,
    preprocessing: Preprocessing,
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

    model: (N, size, size, 3) floats, scaled as `preprocessing` says → (N, K) probabilities, or a dict with these as
    `predictions`; its auxiliary classifiers, its dropout and its optimizer are left out.  labels: K names.
    top: how many of the best classes are named, at most K.  precision: of feature maps and weights, float32,
    bfloat16 or float16; outputs are float32.  pixel_limit: height x width of the largest image that is read.
    fold: batch normalization into the convolutions, and what else `optimize_for_inference` does, which
    changes probabilities by less than 1e-4.  warm_up: images a request in the warm-up log.  origin: where
    the weights came from, for `verify`.
    Raises `UserError` for an argument outside its range and for a version that is there already; warns of
    weights that no training has touched.
    """
    warmup.import_prediction_log()
    labels, to = tuple(labels), Path(to)
    _check_settings(preprocessing, top, precision, pixel_limit, warm_up)
    network = served_network(model, preprocessing.size)
    check_labels(labels, network.output_shape[-1])
    check_version_free(to, version)
    if is_untrained(network):
        warnings.warn(
            f"'{model.name}' is untrained: its weights are as they were first drawn", stacklevel=2
        )
    prepared = optimize_for_inference if fold else in_precision
    network = prepared(network, precision)
    record = ExportMetadata(
        model.name, preprocessing, precision, pixel_limit, fold, origin, environment()
    )

    with atomic_version(to) as building:
        built, notes = building / "model", building / "notes"
        settings = {"top": min(top, len(labels)), "pixel_limit": pixel_limit}
        _save(network, labels, built, preprocessing, **settings)
        write_record(built, record)
        warmup.write_warmup(built, to.absolute().name, warm_up)
        notes.mkdir()
        model_readme.write_model_readme(notes, to.absolute().name, len(labels), record)
        folder = publish_version(built, to, version)
        for note in notes.iterdir():
            if not (to / note.name).exists():  # somebody's edits are kept
                note.replace(to / note.name)
        return folder


def _save(network, labels, folder, preprocessing, **settings) -> None:
    # The label file's first path is kept as the table's name in the graph: a random one keeps apart
    # the tables of two models in one process.
    with tempfile.TemporaryDirectory() as scratch:
        write_labels(Path(scratch, "labels.txt"), labels)
        module = ServingModule(network, str(Path(scratch, "labels.txt")), preprocessing, **settings)
        tf.saved_model.save(module, str(folder), signatures=module.signatures())


def _check_settings(preprocessing, top, precision, pixel_limit, warm_up) -> None:
    numbers = {"size": preprocessing.size, "top": top, "pixel_limit": pixel_limit}
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
    crop = preprocessing.crop
    if crop is not None and not (isinstance(crop, int | float) and 0 < crop <= 1):
        raise UserError(
            f"crop takes a share of each side above 0 and up to 1, or None, got {crop!r}"
        )
