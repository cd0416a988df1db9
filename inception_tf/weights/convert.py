# SPDX-License-Identifier: Apache-2.0
"""Conversion of another project's weights: a new model with the file's classes, heads and padding."""

from __future__ import annotations

import dataclasses
import math
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
from inception_tf.weights.heads import HeadError, unsupported_head
from inception_tf.weights.hub import local_file
from inception_tf.weights.limits import class_count, network_limit
from inception_tf.weights.load import load_weights
from inception_tf.weights.metadata import LAYER_ARGUMENTS, WeightsMetadata, write_metadata
from inception_tf.weights.recognize import describe_file, recognize_file
from inception_tf.weights.registry import Release
from inception_tf.weights.release_of_file import identify_release, release_of_name, without_scale
from inception_tf.weights.source import WeightsFile
from inception_tf.weights.sources import FOREIGN, NATIVE, SOURCES, check_ema, check_network
from inception_tf.weights.transfer import MisfitError, Report, assign
from inception_tf.weights.width import same_filters

__all__ = [
    "Conversion",
    "ForeignWeights",
    "check_layers",
    "convert",
    "file_switches",
    "read_foreign_weights",
]

SUFFIX = ".weights.h5"
HEADS = ("aux_logits", "classes", "include_top")


@dataclass(frozen=True)
class Conversion:
    """A model with the converted weights, and the arguments of `create_model` that build an equal one."""

    network: str  # one of `list_models()`
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
        """Write the weights atomically, with their network, its switches and their preprocessing.

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
            write_metadata(
                unfinished, WeightsMetadata(self.network, self.switches, self.preprocessing)
            )


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
    switches: Mapping[str, Any] | None = None,
    scale: str | None = None,
) -> Conversion:
    """Read another project's weights into a new model, which has the classifiers that the file has.

    Args:
        name: str. The network, one of `list_models()`.
        source: str. The project, one of `sources.SOURCES`.
        path: The file, or a checkpoint's name.
        classes: int. The number of classes that the file must have; None accepts any.
        drop_background: bool. Skip the first class.
        skip_head: bool. Convert the backbone alone, whatever classifiers the file has.
        ema: bool. Read the moving averages of a slim checkpoint instead of its weights.
        release: The release that the file is, for its preprocessing; None: the one whose file has this
            name, otherwise the default one of `source`.
        switches: The switches of the network that the user knows, which the file may not show: `last_pool="max"`.
        scale: str. The scale of the pixels that the weights were trained with, a name in `SCALES`; None: the
            release's.

    Returns:
        The model with its report, its arguments and its preprocessing.

    Raises:
        UserError: The file lacks a variable of the model or has an unknown one, or options conflict.
    """
    if skip_head and (classes or drop_background):
        raise UserError(
            "without its head a file has no classes; give skip_head, or classes and drop_background"
        )
    if source == NATIVE:
        check_ema(ema, source)
        return _convert_native(
            path,
            name,
            switches,
            scale,
            classes,
            release,
            drop_background=drop_background,
            skip_head=skip_head,
        )
    found = read_foreign_weights(name, source, path, ema=ema, release=release, switches=switches)
    file, chosen, preprocessing = found.file, found.switches, found.preprocessing
    if scale is not None:
        preprocessing = dataclasses.replace(preprocessing, scale=scale)
        preprocessing.check()
    heads = {"include_top": False} if skip_head else _heads(found.network, found.names, file.arrays)
    arguments = chosen | heads
    if "classes" in arguments:
        arguments["classes"] = classes or arguments["classes"] - drop_background
    model = build_model(found.network, **{k: arguments[k] for k in arguments.keys() - chosen})
    report = found.assign(model, drop_background=drop_background)
    return Conversion(name, model, arguments, preprocessing, found.why, report)


def _convert_native(
    path: str | Path,
    name: str,
    switches: Mapping[str, Any] | None,
    scale: str | None,
    classes: int | None,
    release: Release | None,
    *,
    drop_background: bool,
    skip_head: bool,
) -> Conversion:
    """This project's own file in a new one: without its head or its background, or with what the user knows of it."""
    found = describe_file(os.fspath(path), name, switches)
    arguments = found.switches | found.layers
    if skip_head or found.classes is None:
        arguments["include_top"] = False
    else:
        arguments["classes"] = classes or found.classes - drop_background
        if found.aux_logits:
            arguments["aux_logits"] = True
    heads = {key: arguments[key] for key in HEADS if key in arguments}
    model = build_model(variant(name, **found.switches), **heads, **found.layers)
    report = load_weights(model, os.fspath(path), NATIVE, drop_background=drop_background)
    preprocessing, why = found.preprocessing, found.why
    if release is not None:
        preprocessing, why = release.preprocessing, f"as release '{release.name}' expects them"
    if scale is not None:
        preprocessing = dataclasses.replace(preprocessing, scale=scale)
        preprocessing.check()
    return Conversion(name, model, arguments, preprocessing, why, report)


@dataclass(frozen=True)
class ForeignWeights:
    """Another project's weights, and the variant of our network that they belong to."""

    source: str  # a key of `SOURCES`
    path: str  # where they were read
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
        try:
            return assign(
                model,
                self.file.arrays,
                self.names,
                notes=self.file.notes,
                training_state=self.file.training_state,
                read=self.read,
                **options,
            )
        except MisfitError as error:
            check_network(error, model, self.source, self.path, self.file.arrays)
            raise


def read_foreign_weights(
    name: str,
    source: str,
    path: str | Path,
    *,
    ema: bool = False,
    release: Release | None = None,
    switches: Mapping[str, Any] | None = None,
) -> ForeignWeights:
    """Read another project's weights and choose the variant of the network that they belong to.

    Args:
        name: str. The network, one of `list_models()`.
        source: str. The project, one of `sources.FOREIGN`.
        path: The file, or a checkpoint's name.
        ema: bool. Read the moving averages of a slim checkpoint instead of its weights.
        release, switches: As in `convert`.

    Returns:
        The weights.

    Raises:
        UserError: The network, the source or the file is unknown, or the file is damaged.
    """
    if source not in FOREIGN:
        raise unknown("source", source, FOREIGN)
    address, path = os.fspath(path), local_file(path)
    check_weights_path(path)
    check_ema(ema, source)
    limit = network_limit(find_network(name))
    file = SOURCES[source].read(path, ema, NOTHING, limit)
    named = release or release_of_name(name, address)
    known = switches if switches or not named else named.switches
    network, chosen, names = _network(name, source, path, file, ema, known)
    release, why = identify_release(name, source, address, release, chosen)
    preprocessing = release.preprocessing if release else Preprocessing(network.size)
    return ForeignWeights(
        source,
        path,
        file,
        lambda wanted: SOURCES[source].read(path, ema, wanted, limit).arrays,
        network,
        chosen,
        names,
        preprocessing,
        why,
    )


def file_switches(
    name: str,
    path: str,
    switches: Mapping[str, Any] | None = None,
    layers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The switches of a network that the weights of a file need.

    Args:
        name: str. The network, one of `list_models()`.
        path: str. A weights file of any project, or a checkpoint's name.
        switches: Those that the user chose.
        layers: The arguments of `metadata.LAYER_ARGUMENTS` that the network is built with; None: not to be compared.

    Returns:
        Arguments of `create_model`; empty where the file needs none.  Those of another network are omitted: the names
        of its arrays tell what is wrong with it.

    Raises:
        UserError: As in `load_weights`, or the file is of another width or activation than `layers`.
    """
    path = local_file(path)
    check_weights_path(path)
    source = detect_source(path, SOURCES, network_limit(find_network(name)))
    if source == NATIVE:
        known = switches_of(name)
        _, recognized = recognize_file(path, name)
        if layers is not None:
            check_layers(
                path, find_network(name), recognized, layers, "create the network with {}={!r}"
            )
        found = {switch: value for switch, value in recognized.items() if switch in known}
        scale = found.pop(SCALE, False)
        return found | ({SCALE: True} if scale and variant(name, **found).batch_norm else {})
    return read_foreign_weights(name, source, path, switches=switches).switches


def check_layers(
    path: str,
    network: Network,
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    remedy: str,
) -> None:
    """Checks that a network has the width and the activation that the weights of a file were trained with.

    Args:
        path: str. The file.
        network: The published table.
        theirs: What the file says or shows of them.
        ours: Arguments of `create_model`; what is missing has its default.
        remedy: str. What to do, with two places for an argument and its value.

    Raises:
        UserError: It has not.
    """
    for argument, default in LAYER_ARGUMENTS.items():
        if argument not in theirs:
            continue  # not known, or the published one, whose arrays tell
        trained, given = theirs[argument], ours.get(argument, default)
        if argument == "width_multiplier":
            # Of a number that no network has, building it says more.
            allowed = isinstance(given, int | float) and 0 < given < math.inf
            same = not allowed or same_filters(network, trained, given)
        else:  # a function or a layer cannot be compared with a name
            same = trained == given or not isinstance(given, str)
        if not same:
            raise UserError(
                f"the weights in '{path}' were trained with {argument}={trained!r}; {remedy.format(argument, trained)}"
            )


def _network(
    name: str,
    source: str,
    path: str,
    file: WeightsFile,
    ema: bool,
    switches: Mapping[str, Any] | None,
) -> tuple[Network, dict[str, Any], dict[str, str]]:
    """The variant that the weights of `source` need, its switches, and the names of its variables.

    `switches`: those that are known, from the user or from the release; they decide between variants that the file
    does not tell apart, and are not overruled by it.
    """
    arrays, chosen = file.arrays, SOURCES[source]
    known = without_scale(switches or {})  # of gammas the file decides
    variants = [dict(one) for one in chosen.variants(name, arrays)]
    agreeing = [one for one in variants if known.items() <= {**_defaults(name), **one}.items()]
    if len(agreeing) > 1 and chosen.same_arrays:
        words = " or ".join(
            f"--set {key}={str(value).lower()}" for one in agreeing for key, value in one.items()
        )
        raise UserError(
            f"'{path}' fits several variants of {name}, and neither its classes nor its name nor other arrays tell"
            f" which it is; say {words} (in Python the arguments of create_model)"
        )
    tried = []
    for one in agreeing or [variants[0]]:
        one = one | known
        network = variant(name, **one)
        tried.append((network, one, chosen.map_names(network, arrays, ema)))
    # One variant may be a prefix of another: of two that match as many arrays, the shorter.
    network, found, names = max(
        tried, key=lambda one: (sum(theirs in arrays for theirs in one[2].values()), -len(one[2]))
    )
    if (switches or {}).get(SCALE, has_gammas(names, arrays)):
        found |= {SCALE: True}
        network = variant(name, **found)
    return network, found, names


def _defaults(name: str) -> dict[str, Any]:
    return dict(switches_of(name))


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
            raise HeadError(unsupported)
        return {"include_top": False}
    heads: dict[str, Any] = {"classes": class_count(of(LOGITS))}
    if any(of(auxiliary.name) for auxiliary in network.auxiliaries):
        heads["aux_logits"] = True
    return heads
