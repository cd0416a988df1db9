# SPDX-License-Identifier: Apache-2.0
"""The files of `keras.applications`: `.h5` as Keras 1 and 2 wrote them, `.weights.h5` and `.keras` of Keras 3."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container

import numpy as np

from inception_tf.host.files import check_content
from inception_tf.weights.formats import hdf5, native
from inception_tf.weights.formats.archive import check_member, member_chunks, open_archive
from inception_tf.weights.formats.stored import damage_is, read_wanted

__all__ = ["config_of_keras_file", "is_keras_applications", "read_keras_h5"]

OTHER = ("kernel", "bias")  # in Keras 3's numbering; of batch normalizations see `native`
HEAD = "predictions"  # the classifier of keras.applications
CONFIG, LARGEST_CONFIG = "config.json", 2**24  # of a `.keras` file, and bytes
NUMBERED = re.compile(r"conv2d(_\d+)?")


def is_keras_applications(path: str, limit: int | None) -> bool:
    """Whether a file's layers have the names of `keras.applications` rather than this project's.

    Args:
        path: str. An HDF5 or `.keras` file.
        limit: int. The most bytes to unpack from a `.keras` file; None: as of `hdf5.locate_hdf5`.

    Returns:
        False also for a damaged file.

    Raises:
        UserError: The file is none that Keras writes.
    """
    check_content(path, f"no weights file at '{path}'; give a .weights.h5 or .keras file")
    with (
        damage_is(
            f"'{path}' is damaged or not a Keras file; give a complete .weights.h5 or .keras file"
        ),
        hdf5.open_hdf5(path, limit) as file,
    ):
        if whole := native.whole_model_layers(file, path):
            return not any(map(_is_ours, whole))
        layers = native.layer_names(file, path)
    return any(map(NUMBERED.fullmatch, layers)) and not any(map(_is_ours, layers))


def _is_ours(layer: str) -> bool:
    return layer.startswith("Conv2d_")


def read_keras_h5(path: str, wanted: Container[str], limit: int | None) -> dict[str, np.ndarray]:
    """The weights of a file of `keras.applications`, each under its layer's name.

    Args:
        path: str. An `.h5`, `.weights.h5` or `.keras` file.
        wanted: Names of the arrays to read; the others are placeholders.
        limit: int. The most bytes to unpack from a `.keras` file; None: as of `hdf5.locate_hdf5`.

    Returns:
        Layer and variable, such as `conv2d_12/kernel` → array.

    Raises:
        UserError: The file is missing or damaged.
    """
    check_content(path, f"no weights file at '{path}'; give the .h5 file of keras.applications")
    with (
        damage_is(
            f"'{path}' is damaged or not an .h5 file of keras.applications; give a complete one"
        ),
        hdf5.open_hdf5(path, limit) as file,
    ):
        if whole := native.whole_model_layers(file, path):
            head = _classifier_layer(hdf5.text(file, "model_config"))
            stored = {
                _named(layer, weight, head): array
                for layer, weights in whole.items()
                for weight, array in weights.items()
            }
            return read_wanted(stored, wanted)
        numbered = native.numbered_arrays(file, path)
        head = _classifier_layer(config_of_keras_file(path))
        counts = Counter(name.rsplit("/", 1)[0] for name in numbered)
        stored = {
            _renamed(_with_kind(name, counts), head): array for name, array in numbered.items()
        }
        return read_wanted(stored, wanted)


def _named(layer: str, weight: str, head: str) -> str:
    """`conv2d_1/kernel`, of a layer inside another model too, whose weights have its own name before theirs."""
    parts = weight.split(":")[0].split("/")
    inside = parts[-2] if len(parts) > 1 else layer
    return _renamed(f"{inside}/{parts[-1]}", head)


def _renamed(name: str, head: str) -> str:
    """The name that the classifier of `keras.applications` has, for one that does the same."""
    layer, _, kind = name.rpartition("/")
    return f"{HEAD}/{kind}" if layer == head else name


def _classifier_layer(config: str | None) -> str:
    """The dense layer that is a whole classifier: on globally averaged features, with nothing but dropout between.

    Args:
        config: A model's configuration as Keras 2 or 3 stores it, JSON.

    Returns:
        The layer's name; empty where there is no configuration, or the classifier has another structure.
    """
    if not config:
        return ""
    try:
        layers = json.loads(config)["config"]["layers"]
        found = [(one["class_name"], one["config"]) for one in layers]
        activation = ""
        while found and found[-1][0] in ("Activation", "Softmax"):
            kind, settings = found.pop()
            activation = "softmax" if kind == "Softmax" else settings["activation"]
        kind, settings = found.pop()
        before = [kind for kind, _ in found if kind not in ("Dropout", "Flatten")]
        if kind != "Dense" or not before or before[-1] != "GlobalAveragePooling2D":
            return ""
        activations = {settings["activation"], activation} - {"", "linear"}
        return settings["name"] if activations <= {"softmax"} else ""
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ""


def config_of_keras_file(path: str) -> str | None:
    """The configuration of the model in a `.keras` file.

    Args:
        path: str. A weights file.

    Returns:
        JSON; None of another file, where there is none, and of one that is larger than any network's.

    Raises:
        UserError: It is damaged, or packed in a way that Keras never does.
    """
    if not path.endswith(".keras"):
        return None
    with (
        damage_is(f"the configuration in '{path}' is damaged; give a complete .keras file"),
        open_archive(path) as archive,
    ):
        if CONFIG not in archive.namelist():
            return None
        member = archive.getinfo(CONFIG)
        check_member(path, member)
        if member.file_size > LARGEST_CONFIG:
            return None
        return b"".join(member_chunks(archive, member)).decode("utf-8", "replace")


def _with_kind(name: str, counts: Counter[str]) -> str:
    """`batch_normalization_1/0` → `batch_normalization_1/beta`; a number out of range is kept."""
    layer, number = name.rsplit("/", 1)
    is_batch_norm = layer.startswith("batch_normalization") or layer.endswith("_bn")
    kinds = dict(enumerate(native.batch_norm_kinds(counts[layer]) if is_batch_norm else OTHER))
    return f"{layer}/{kinds.get(int(number) if number.isdecimal() else -1, number)}"
