# SPDX-License-Identifier: Apache-2.0
"""Weights from files into models: by name, checked, all or nothing."""

from __future__ import annotations

import os

from inception_tf.errors import unknown
from inception_tf.weights.detect import check, guess
from inception_tf.weights.sources import SOURCES, check_ema
from inception_tf.weights.transfer import Report, fill

__all__ = ["Report", "load_weights"]


def load_weights(
    model,
    path,
    source: str = "auto",
    strict: bool = True,
    *,
    skip_head: bool = False,
    drop_background: bool = False,
    ema: bool = False,
) -> Report:
    """Loads a file into `model` by the names of its layers and reports what was used.

    path: a `.weights.h5` or `.keras` file of this project, a checkpoint of slim
        (`inception_v3.ckpt`), an `.h5` file of keras.applications or its models saved by Keras 3
        (`.weights.h5`, `.keras`), a `.safetensors` or `.pth` state dict of torchvision or timm, BVLC's GoogLeNet as `.npz` or `.caffemodel`.
    source: "own", "slim", "keras", "torchvision", "timm", "bvlc", or "auto", which decides by the
        file's name and form.
    strict: refuse a file that does not fill the whole model or holds more than the model has;
        False loads what fits.  A classifier or auxiliary classifier that the file has and the
        model was built without is no misfit: the report lists it as unused.
    skip_head: leave the model's classifiers as they are: for fine-tuning on other classes.
    drop_background: leave out the first class of a file that has one class more than the model, as
        slim's have with 1,001.
    ema: take the moving averages of a slim checkpoint in place of its weights; each variable must
        have its own.

    A first kernel for another number of input channels is adapted, and the report says so: summed
    for one channel, else repeated and rescaled.  Raises `UserError`, with the model as it was, when
    the file is missing, damaged, no weights at all, or another network's.
    """
    path = os.fspath(path)
    if source != "auto" and source not in SOURCES:
        raise unknown("source", source, ["auto", *SOURCES])
    check(path)
    source = guess(path, SOURCES) if source == "auto" else source
    check_ema(ema, source)
    chosen = SOURCES[source]
    network = chosen.network_of(model)
    file = chosen.read(path, ema)
    return fill(
        model,
        file.arrays,
        chosen.names(network, file.arrays, ema),
        strict=strict,
        skip_head=skip_head,
        drop_background=drop_background,
        notes=(*file.notes, *chosen.notes(model, network)),
        set_aside=file.set_aside,
    )
