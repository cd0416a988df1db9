# SPDX-License-Identifier: Apache-2.0
"""A Keras model and its labels into a numbered SavedModel folder, which appears whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from inception_tf.data.decoding.validation import PIXEL_LIMIT
from inception_tf.data.keras_options import KerasOptions
from inception_tf.data.labels import write_labels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.export import model_readme, warmup
from inception_tf.export.metadata import (
    ExportMetadata,
    Origin,
    describe_contents,
    write_metadata,
)
from inception_tf.export.served_network import (
    check_labels,
    check_same,
    is_untrained,
    served_network,
    with_features,
)
from inception_tf.export.signatures import ServingModule, contract_of
from inception_tf.host.backend import needs_tensorflow_backend
from inception_tf.host.environment import environment
from inception_tf.inference.optimize import PRECISIONS, in_precision, optimize_for_inference
from inception_tf.nn.network import gives_several_classes
from inception_tf.ranges import PIXEL_LIMITS
from inception_tf.savedmodel.versions import (
    VERSION_LIMIT,
    atomic_version,
    check_version_free,
    keep_notes,
    publish_version,
)

__all__ = ["export"]

TOP = 5
WARM_UP = (1, 4, 8)  # images per request; the server is slow at the first request of each signature


def export(
    model: keras.Model,
    labels: Sequence[str],
    to: str | Path,
    preprocessing: Preprocessing,
    *,
    version: int | None = None,
    top: int | None = None,
    precision: str = "float32",
    pixel_limit: int = PIXEL_LIMIT,
    fold: bool = True,
    warm_up: Sequence[int] = WARM_UP,
    origin: Origin | None = None,
    features: bool = False,
    switches: Mapping[str, Any] | None = None,
    keras_options: KerasOptions | None = None,
) -> Path:
    """Writes a Keras classifier as a SavedModel into a numbered version folder.

    Auxiliary classifiers, dropout and the optimizer are not exported.  A model that was never trained is exported with
    a warning.

    Args:
        model: (N, size, size, 3) floats, scaled as `preprocessing` says → (N, K) probabilities, or a dict with these
            as `predictions`.
        labels: K class names, in order.
        to: The folder of the versions; its name is the name of the served model.
        preprocessing: Size, crop and scale of the network.
        version: Number of the version folder; None for the highest plus 1.
        top: How many of the best classes a response lists, at most K; None: 5, or all of a network whose classes are
            independent, because it ends in a sigmoid.
        precision: float32, bfloat16 or float16, of feature maps and weights; outputs are float32.
        pixel_limit: Height x width of the largest image that is read.
        fold: Fold batch normalization into the convolutions and do what else `optimize_for_inference` does, which
            changes probabilities by less than 1e-4.
        warm_up: Images of each request in the warm-up log.
        origin: Where the weights came from, for `verify`.
        features: Add the signature `features`, the vector that the classifier is computed from.
        switches: The arguments of `create_model` that chose the network's variant, for the record; None: not known.
        keras_options: What the user said of a Keras model of another project, for `verify`.

    Returns:
        The version folder.

    Raises:
        UserError: An argument is outside of its range, the version exists, or `tensorflow-serving-api` is missing.

    Example:
        model = inception_tf.create_model("inception_v1", classes=2)
        export(model, ["cat", "dog"], "saved_models/pets", Preprocessing(size=224))
    """
    needs_tensorflow_backend("export")
    warmup.import_prediction_log()
    labels, to = tuple(labels), Path(to)
    network = served_network(model, preprocessing.size)
    several = gives_several_classes(network)
    if top is None:
        top = len(labels) if several else TOP
    _check_settings(preprocessing, top, precision, pixel_limit, warm_up, features)
    check_labels(labels, network.output_shape[-1])
    check_version_free(to, version)
    if is_untrained(network):
        warnings.warn(
            f"'{model.name}' is untrained: its weights are the random initialization", stacklevel=2
        )
    if features:
        network = with_features(network)
    network = _prepared(network, precision, fold, preprocessing)
    origin = origin and dataclasses.replace(origin, exported_to=os.path.abspath(to))
    metadata = ExportMetadata(
        *(model.name, preprocessing, precision, pixel_limit, fold, origin, environment()),
        features=network.output["features"].shape[-1] if features else None,
        multi_label=several,
        switches=switches,
        keras_options=keras_options,
    )

    with atomic_version(to) as building:
        built, notes = building / "model", building / "notes"
        settings = {"top": min(top, len(labels)), "pixel_limit": pixel_limit}
        _save(network, labels, built, preprocessing, **settings)
        warmup.write_warmup(built, to.absolute().name, warm_up, features=features)
        written = tuple(contract_of(features))
        contents = describe_contents(
            built,
            labels,
            written,
            top=settings["top"],
            warm_up=len(warm_up) * len(written),
        )
        write_metadata(built, dataclasses.replace(metadata, contents=contents))
        notes.mkdir()
        model_readme.write_model_readme(notes, to.absolute().name, len(labels), metadata)
        folder = publish_version(built, to, version)
        keep_notes(notes, to)
        return folder


def _prepared(
    network: keras.Model, precision: str, fold: bool, preprocessing: Preprocessing
) -> keras.Model:
    """The network as it is served: in one precision, and folded where that changes nothing."""
    if not fold:
        return in_precision(network, precision)
    network = in_precision(network, "float32")
    optimized = optimize_for_inference(network)
    check_same(network, optimized, preprocessing)
    return in_precision(optimized, precision)


def _save(
    network: keras.Model,
    labels: Sequence[str],
    folder: Path,
    preprocessing: Preprocessing,
    **settings: int,
) -> None:
    # The graph names the table after the label file's first path: a random one keeps the tables of two
    # models in one process apart.
    with tempfile.TemporaryDirectory() as scratch:
        write_labels(Path(scratch, "labels.txt"), labels)
        module = ServingModule(network, str(Path(scratch, "labels.txt")), preprocessing, **settings)
        tf.saved_model.save(module, str(folder), signatures=module.signatures())


def _check_settings(
    preprocessing: Preprocessing,
    top: int,
    precision: str,
    pixel_limit: int,
    warm_up: Sequence[int],
    features: bool,
) -> None:
    preprocessing.check()
    for name, value in [("top", top), *(("warm_up", batch) for batch in warm_up)]:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < VERSION_LIMIT:
            raise UserError(f"{name} must be an integer of at least 1, got {value!r}")
    if not isinstance(pixel_limit, int) or not PIXEL_LIMITS.holds(pixel_limit):
        raise UserError(f"pixel_limit must be an integer {PIXEL_LIMITS}, got {pixel_limit!r}")
    most = warmup.RECORD_LIMIT // len(contract_of(features))
    if not 0 < len(warm_up) <= most:
        raise UserError(f"warm_up must have 1 to {most} batch sizes, got {len(warm_up)}")
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
