# SPDX-License-Identifier: Apache-2.0
"""Another project's file into a model of this one that has all of it: its classes, its heads, its padding."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from inception_tf.arch.spec import Network
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.host.atomic_io import atomic_path
from inception_tf.models import find_network, variant
from inception_tf.nn.network import LOGITS, build_model
from inception_tf.weights.detect import check
from inception_tf.weights.metadata import write_preprocessing, write_switches
from inception_tf.weights.registry import Release, releases_of
from inception_tf.weights.source import WeightsFile
from inception_tf.weights.sources import FOREIGN, SOURCES, check_ema
from inception_tf.weights.transfer import Report, fill, other_head, refuse_other_head

__all__ = ["Conversion", "Foreign", "convert", "read_foreign", "taken_for"]

ENDING = ".weights.h5"
HEADS = ("aux_logits", "classes", "include_top")


@dataclass(frozen=True)
class Conversion:
    """The model that holds a file's weights, and the arguments of `create_model` that make its like."""

    model: keras.Model
    arguments: Mapping[str, object]
    preprocessing: Preprocessing  # how these weights want their images
    why: str  # what says so
    report: Report

    @property
    def switches(self) -> dict[str, object]:
        """The arguments that choose the network's variant and not its heads."""
        return {k: v for k, v in self.arguments.items() if k not in HEADS}

    def save(self, path: str | Path) -> None:
        """Writes `path` whole or not at all, with the preprocessing noted in it."""
        path = Path(path)
        if not path.name.endswith(ENDING):
            raise UserError(f"weights are written as {ENDING}; got '{path}'")
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent}; make it first")
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
    """Reads a file of `source` into a new model of the network `name`.

    classes: as many as the file has; None reads them from it.  drop_background: leave out the first.
    skip_head: the body alone, whatever classifiers the file has.  ema: the moving averages of a slim
    checkpoint in place of its weights.  release: which release the file is, for its preprocessing;
    None takes the one whose file has this name, else the usual one of `source`.
    The model has the auxiliary classifiers and the classifier if the file has them.  Raises
    `UserError` where the file lacks one of the model's variables or has one that fits nowhere.
    """
    if skip_head and (classes or drop_background):
        raise UserError(
            "without its head a file has no classes; give skip_head, or classes and drop_background"
        )
    found = read_foreign(name, source, path, ema=ema, release=release)
    file, switches = found.file, found.switches
    heads = {"include_top": False} if skip_head else _heads(found.network, found.names, file.arrays)
    arguments = switches | heads
    if "classes" in arguments:
        arguments["classes"] = classes or arguments["classes"] - drop_background
    model = build_model(found.network, **{k: arguments[k] for k in arguments.keys() - switches})
    report = found.fill(model, drop_background=drop_background)
    return Conversion(model, arguments, found.preprocessing, found.why, report)


@dataclass(frozen=True)
class Foreign:
    """Another project's file, read, and the variant of our network that it belongs to."""

    file: WeightsFile
    network: Network
    switches: dict[str, object]  # the arguments that choose the variant
    names: dict[str, str]  # our variable path → the file's name
    preprocessing: Preprocessing  # how these weights want their images
    why: str  # what says so

    def fill(self, model: keras.Model, **options) -> Report:
        """Assigns the arrays to a model of that variant; options are those of `transfer.fill`."""
        return fill(
            model,
            self.file.arrays,
            self.names,
            notes=self.file.notes,
            set_aside=self.file.set_aside,
            **options,
        )


def read_foreign(
    name: str,
    source: str,
    path: str | Path,
    *,
    ema: bool = False,
    release: Release | None = None,
) -> Foreign:
    """Reads a file of `source` for the network `name`; arguments and errors are those of `convert`."""
    find_network(name)
    if source not in FOREIGN:
        raise unknown("source", source, FOREIGN)
    path = os.fspath(path)
    check(path)
    check_ema(ema, source)
    release, why = taken_for(name, source, path, release)
    file = SOURCES[source].read(path, ema)
    network, switches, names = _network(name, source, file.arrays, ema, release)
    preprocessing = release.preprocessing if release else Preprocessing(network.size)
    return Foreign(file, network, switches, names, preprocessing, why)


def _network(
    name: str, source: str, arrays, ema: bool, release: Release | None
) -> tuple[Network, dict, dict[str, str]]:
    """The variant that the weights of `source` need, its switches, and the names of its variables."""
    choices = [dict(switches) for switches in SOURCES[source].variants(name)]
    tried = []
    for switches in choices or [dict(release.switches) if release else {}]:
        network = variant(name, **switches)
        tried.append((network, switches, SOURCES[source].names(network, arrays, ema)))
    # A variant may be the beginning of another: of two that explain as much, the shorter.
    return max(
        tried, key=lambda one: (sum(theirs in arrays for theirs in one[2].values()), -len(one[2]))
    )


def _heads(network: Network, names: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> dict:
    """`classes` and `aux_logits`, or `include_top=False`, as the file has its classifiers."""

    def of(layer):
        found = [names.get(f"{layer}/{kind}") for kind in ("bias", "kernel")]
        return [arrays[theirs] for theirs in found if theirs in arrays]

    if not of(LOGITS):
        other = other_head(names, arrays)
        if other:
            raise refuse_other_head(other)
        return {"include_top": False}
    heads = {"classes": int(of(LOGITS)[0].shape[-1])}
    if any(of(auxiliary.name) for auxiliary in network.auxiliaries):
        heads["aux_logits"] = True
    return heads


def taken_for(
    name: str, source: str, path: str, release: Release | None
) -> tuple[Release | None, str]:
    """The release that a file is, and what says so, for a sentence; None where none is known."""
    if release is not None:
        if release.source != source:
            raise UserError(
                f"release '{release.name}' of {name} is a file of '{release.source}', not of '{source}'; give"
                " the source and the release of one project"
            )
        return release, f"as release '{release.name}' wants them"
    known = releases_of(name, source)
    if not known:
        return None, f"no release of {name} by '{source}' is known"
    of_that_name = [one for one in known if os.path.basename(path) in (one.file, one.member)]
    if len(of_that_name) == 1:
        return of_that_name[0], f"by its name the file of release '{of_that_name[0].name}'"
    usual = known[0]
    others = [repr(one.name) for one in known if one.preprocessing != usual.preprocessing]
    instead = f"; otherwise --release {' or '.join(others)}" if others else ""
    return usual, f"taken for '{usual.name}', the usual release of '{source}'{instead}"
