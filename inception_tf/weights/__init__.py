# SPDX-License-Identifier: Apache-2.0
"""Weights from files into models: by name, checked, all or nothing."""

from __future__ import annotations

import os

from inception_tf.errors import UserError, unknown
from inception_tf.weights import own, slim
from inception_tf.weights.mapping import Report, fill

__all__ = ["Report", "load_weights"]

SOURCES = {"own": own, "slim": slim}


def load_weights(model, path, source: str = "auto", strict: bool = True) -> Report:
    """Loads a file into `model` by the names of its layers and reports what was used.

    path: a `.weights.h5` or `.keras` file of this project, or a checkpoint of slim
        (`inception_v3.ckpt`).
    source: "own", "slim", or "auto", which decides by the file's name.
    strict: refuse a file that does not fill the whole model or holds more than the model has;
        False loads what fits.  A classifier or auxiliary classifier that the file has and the
        model was built without is no misfit: the report lists it as unused.

    Raises `UserError`, with the model as it was, when the file is missing, damaged, or another
    network's.
    """
    path = os.fspath(path)
    if source != "auto" and source not in SOURCES:
        raise unknown("source", source, ["auto", *SOURCES])
    arrays, names = SOURCES[_guess(path) if source == "auto" else source].open_file(model, path)
    return fill(model, arrays, names, strict=strict)


def _guess(path: str) -> str:
    if path.endswith((".h5", ".keras")):
        return "own"
    if ".ckpt" in os.path.basename(path) or os.path.exists(f"{path}.index"):
        return "slim"
    raise UserError(
        f"cannot tell what '{path}' is; give a .weights.h5 or .keras file, or a slim checkpoint"
        f" (.ckpt), or say which with source={' or '.join(map(repr, SOURCES))}"
    )
