# SPDX-License-Identifier: Apache-2.0
"""Another project's file into a model of this one that has all of it: its classes, its heads, its padding."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.files import aside
from inception_tf.models import find, variant
from inception_tf.models.build import LOGITS, build
from inception_tf.spec import Network
from inception_tf.weights import bvlc, keras_h5, slim, torch
from inception_tf.weights.guess import check
from inception_tf.weights.mapping import Report, fill
from inception_tf.weights.releases import RELEASES
from inception_tf.weights.view import write_view

__all__ = ["SOURCES", "Conversion", "convert"]

SOURCES = {"slim": slim, "keras": keras_h5, "torchvision": torch, "timm": torch, "bvlc": bvlc}
BVLC_VIEW = Preprocessing(224, 0.875, "caffe")  # BVLC's deploy.prototxt: a 224 crop of 256 pixels
ENDING = ".weights.h5"


@dataclass(frozen=True)
class Conversion:
    """The model that holds a file's weights, and the arguments of `create_model` that make its like."""

    model: keras.Model
    arguments: Mapping[str, object]
    view: Preprocessing  # how these weights want their images
    report: Report

    def save(self, path: str | Path) -> None:
        """Writes `path` whole or not at all, with the view noted in it."""
        path = Path(path)
        if not path.name.endswith(ENDING):
            raise UserError(f"weights are written as {ENDING}; got '{path}'")
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent}; make it first")
        with aside(path) as unfinished:
            self.model.save_weights(unfinished)
            write_view(unfinished, self.view)


def convert(
    name: str,
    source: str,
    path: str | Path,
    *,
    classes: int | None = None,
    drop_background: bool = False,
) -> Conversion:
    """Reads a file of `source` into a new model of the network `name`.

    classes: as many as the file has; None reads them from it.  drop_background: leave out the first.
    The model has the auxiliary classifiers and the classifier if the file has them.  Raises
    `UserError` where the file lacks one of the model's variables or has one that fits nowhere.
    """
    find(name)
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    path = os.fspath(path)
    check(path)
    arrays = SOURCES[source].read(path)
    network, switches, names = _network(name, source, arrays)
    arguments = switches | _heads(network, names, arrays)
    if "classes" in arguments:
        arguments["classes"] = classes or arguments["classes"] - drop_background
    model = build(
        variant(name, **switches), **{k: arguments[k] for k in arguments.keys() - switches}
    )
    report = fill(model, arrays, names, drop_background=drop_background)
    return Conversion(model, arguments, _view(network, source), report)


def _network(name: str, source: str, arrays) -> tuple[Network, dict, dict[str, str]]:
    """The variant that the weights of `source` need, its switches, and the names of its variables."""
    needed = next(
        (dict(r.switches) for r in RELEASES if (r.network, r.source) == (name, source)), {}
    )
    choices = [needed]
    if source == "slim" and name in slim.NETWORKS_OF_SLIM:
        choices = [dict(switches) for switches in slim.NETWORKS_OF_SLIM[name].variants]
    tried = []
    for switches in choices:
        network = variant(name, **switches)
        names = slim.names(network) if source == "slim" else SOURCES[source].names(network, arrays)
        tried.append((network, switches, names))
    return max(tried, key=lambda one: sum(theirs in arrays for theirs in one[2].values()))


def _heads(network: Network, names: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> dict:
    """`classes` and `aux_logits`, or `include_top=False`, as the file has its classifiers."""

    def of(layer):
        found = [names.get(f"{layer}/{kind}") for kind in ("bias", "kernel")]
        return [arrays[theirs] for theirs in found if theirs in arrays]

    if not of(LOGITS):
        return {"include_top": False}
    heads = {"classes": int(of(LOGITS)[0].shape[-1])}
    if any(of(auxiliary.name) for auxiliary in network.auxiliaries):
        heads["aux_logits"] = True
    return heads


def _view(network: Network, source: str) -> Preprocessing:
    for release in RELEASES:
        if (release.network, release.source) == (network.name, source):
            return release.preprocessing
    return BVLC_VIEW if source == "bvlc" else Preprocessing(network.size)
