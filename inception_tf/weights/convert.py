# SPDX-License-Identifier: Apache-2.0
"""Conversion of another project's weights: a new model with the file's classes, heads and padding."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from inception_tf.arch.spec import Network
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.host.atomic_io import atomic_path
from inception_tf.models import SCALE, find_network, variant
from inception_tf.models import switches as switches_of
from inception_tf.nn.network import LOGITS, build_model
from inception_tf.weights.detect import check_weights_path, detect_source
from inception_tf.weights.formats.stored import NOTHING
from inception_tf.weights.gamma import has_gammas
from inception_tf.weights.limits import class_count, network_limit
from inception_tf.weights.metadata import read_switches, write_preprocessing, write_switches
from inception_tf.weights.registry import Release, releases_of
from inception_tf.weights.source import WeightsFile
from inception_tf.weights.sources import FOREIGN, NATIVE, SOURCES, check_ema
from inception_tf.weights.transfer import Report, assign, unsupported_head, unsupported_head_error

__all__ = [
    "Conversion",
    "ForeignWeights",
    "convert",
    "file_switches",
    "identify_release",
    "read_foreign_weights",
]

SUFFIX = ".weights.h5"
STATE_DICTS = ("torchvision", "timm")
HEADS = ("aux_logits", "classes", "include_top")


@dataclass(frozen=True)
class Conversion:
    """A model with the converted weights, and the arguments of `create_model` that build an equal one."""

    model: keras.Model
    arguments: Mapping[str, Any]
    preprocessing: Preprocessing  # what these weights expect
    why: str  # where the preprocessing is known from, for a message
    report: Report

    @property
    def switches(self) -> dict[str, Any]:
        """The arguments that choose the network's variant, without those of its heads."""
        return {k: v for k, v in self.arguments.items() if k not in HEADS}

    def save(self, path: str | Path) -> None:
        """Write the weights atomically, with their preprocessing and variant switches.

        Args:
            path: The `.weights.h5` file to write.

        Raises:
            UserError: The path has another ending, or its folder does not exist.
        """
        path = Path(path)
        if not path.name.endswith(SUFFIX):
            raise UserError(f"the file of the weights must end in {SUFFIX}, got '{path}'")
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent}; create it first")
        with atomic_path(path) as unfinished:
            self.model.save_weights(unfinished)
            write_preprocessing(unfinished, self.preprocessing)
            write_switches(unfinished, self.switches)


def convert(
    name: str,
    source: str,
    path: str | Path,
    *,
    classes: int | None = None,
    drop_background: bool = False,
    skip_head: bool = False,
    ema: bool = False,
    release: Release | None = None,
) -> Conversion:
    """Read another project's weights into a new model, which has the classifiers that the file has.

    Args:
        name: str. The network, one of `list_models()`.
        source: str. The project, one of `sources.FOREIGN`.
        path: The file, or a checkpoint's name.
        classes: int. The number of classes that the file must have; None accepts any.
        drop_background: bool. Skip the first class.
        skip_head: bool. Convert the backbone alone, whatever classifiers the file has.
        ema: bool. Read the moving averages of a slim checkpoint instead of its weights.
        release: The release that the file is, for its preprocessing; None: the one whose file has this
            name, otherwise the default one of `source`.

    Returns:
        The model with its report, its arguments and its preprocessing.

    Raises:
        UserError: The file lacks a variable of the model or has an unknown one, or options conflict.
    """
    if skip_head and (classes or drop_background):
        raise UserError(
            "without its head a file has no classes; give skip_head, or classes and drop_background"
        )
    found = read_foreign_weights(name, source, path, ema=ema, release=release)
    file, switches = found.file, found.switches
    heads = {"include_top": False} if skip_head else _heads(found.network, found.names, file.arrays)
    arguments = switches | heads
    if "classes" in arguments:
        arguments["classes"] = classes or arguments["classes"] - drop_background
    model = build_model(found.network, **{k: arguments[k] for k in arguments.keys() - switches})
    report = found.assign(model, drop_background=drop_background)
    return Conversion(model, arguments, found.preprocessing, found.why, report)


@dataclass(frozen=True)
class ForeignWeights:
    """Another project's weights, and the variant of our network that they belong to."""

    file: WeightsFile  # its arrays are placeholders
    read: Callable[[Container[str]], Mapping[str, np.ndarray]]  # reads the arrays of these names
    network: Network
    switches: dict[str, Any]  # the arguments that choose the variant
    names: dict[str, str]  # our variable path → the file's name
    preprocessing: Preprocessing  # what these weights expect
    why: str  # where the preprocessing is known from, for a message

    def assign(self, model: keras.Model, **options: bool) -> Report:
        """Assign the arrays to a model of that variant.

        Args:
            model: The model.
            **options: `strict`, `skip_head` and `drop_background` of `transfer.assign`.

        Returns:
            The report.
        """
        return assign(
            model,
            self.file.arrays,
            self.names,
            notes=self.file.notes,
            training_state=self.file.training_state,
            read=self.read,
            **options,
        )


def read_foreign_weights(
    name: str,
    source: str,
    path: str | Path,
    *,
    ema: bool = False,
    release: Release | None = None,
) -> ForeignWeights:
    """Read another project's weights and choose the variant of the network that they belong to.

    Args:
        name: str. The network, one of `list_models()`.
        source: str. The project, one of `sources.FOREIGN`.
        path: The file, or a checkpoint's name.
        ema: bool. Read the moving averages of a slim checkpoint instead of its weights.
        release: As in `convert`.

    Returns:
        The weights.

    Raises:
        UserError: The network, the source or the file is unknown, or the file is damaged.
    """
    if source not in FOREIGN:
        raise unknown("source", source, FOREIGN)
    path = os.fspath(path)
    check_weights_path(path)
    check_ema(ema, source)
    release, why = identify_release(name, source, path, release)
    limit = network_limit(find_network(name))
    file = SOURCES[source].read(path, ema, NOTHING, limit)
    network, switches, names = _network(name, source, file.arrays, ema, release)
    preprocessing = release.preprocessing if release else Preprocessing(network.size)
    return ForeignWeights(
        file,
        lambda wanted: SOURCES[source].read(path, ema, wanted, limit).arrays,
        network,
        switches,
        names,
        preprocessing,
        why,
    )


def file_switches(name: str, path: str) -> dict[str, Any]:
    """The switches of a network that the weights of a file need.

    Args:
        name: str. The network, one of `list_models()`.
        path: str. A weights file of any project, or a checkpoint's name.

    Returns:
        Arguments of `create_model`; empty where the file needs none.  Those of another network are left out: the names
        of its arrays tell what is wrong with it.

    Raises:
        UserError: As in `load_weights`.
    """
    check_weights_path(path)
    source = detect_source(path, SOURCES, network_limit(find_network(name)))
    if source == NATIVE:
        known = switches_of(name)
        found = {switch: value for switch, value in read_switches(path).items() if switch in known}
        scale = found.pop(SCALE, False)
        return found | ({SCALE: True} if scale and variant(name, **found).batch_norm else {})
    return read_foreign_weights(name, source, path).switches


def _network(
    name: str, source: str, arrays: Mapping[str, np.ndarray], ema: bool, release: Release | None
) -> tuple[Network, dict[str, Any], dict[str, str]]:
    """The variant that the weights of `source` need, its switches, and the names of its variables."""
    choices = [dict(switches) for switches in SOURCES[source].variants(name)]
    tried = []
    for switches in choices or [dict(release.switches) if release else {}]:
        network = variant(name, **switches)
        tried.append((network, switches, SOURCES[source].map_names(network, arrays, ema)))
    # One variant may be a prefix of another: of two that match as many arrays, the shorter.
    network, switches, names = max(
        tried, key=lambda one: (sum(theirs in arrays for theirs in one[2].values()), -len(one[2]))
    )
    if has_gammas(names, arrays):
        switches |= {SCALE: True}
        network = variant(name, **switches)
    return network, switches, names


def _heads(
    network: Network, names: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`classes` and `aux_logits`, or `include_top=False`, as the file has its classifiers."""

    def of(layer: str) -> list[np.ndarray]:
        found = [names.get(f"{layer}/{kind}", "") for kind in ("bias", "kernel")]
        return [arrays[theirs] for theirs in found if theirs in arrays]

    if not of(LOGITS):
        unsupported = unsupported_head(names, arrays)
        if unsupported:
            raise unsupported_head_error(unsupported)
        return {"include_top": False}
    heads: dict[str, Any] = {"classes": class_count(of(LOGITS))}
    if any(of(auxiliary.name) for auxiliary in network.auxiliaries):
        heads["aux_logits"] = True
    return heads


def identify_release(
    name: str, source: str, path: str, release: Release | None
) -> tuple[Release | None, str]:
    """The release that a file is.

    Args:
        name: str. The network.
        source: str. The project.
        path: str. The file.
        release: The release that the user names, or None.

    Returns:
        The release, or None if none is known, and for a message how it was identified.

    Raises:
        UserError: The release is of another source.
    """
    if release is not None:
        if release.source != source:
            raise UserError(
                f"release '{release.name}' of {name} is a file of '{release.source}', not of '{source}'; give"
                " the source and the release of one project"
            )
        return release, f"as release '{release.name}' expects them"
    known = releases_of(name, source)
    if source in STATE_DICTS:  # of one format, which a file does not tell apart
        for other in STATE_DICTS:
            known += releases_of(name, other) if other != source else []
    if not known:
        return None, f"no release of {name} by '{source}' is known"
    of_that_name = [one for one in known if os.path.basename(path) in (one.file, one.member)]
    if len(of_that_name) == 1:
        return of_that_name[0], f"identified by its name as release '{of_that_name[0].name}'"
    default = known[0]
    others = [
        repr(one.name)
        for one in known
        if one.source == default.source and one.preprocessing != default.preprocessing
    ]
    instead = f"; otherwise --release {' or '.join(others)}" if others else ""
    return (
        default,
        f"assumed to be '{default.name}', the default release of '{default.source}'{instead}",
    )
