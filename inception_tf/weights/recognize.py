# SPDX-License-Identifier: Apache-2.0
"""Which network, and which variant of it, a model or a file of this project is: by the kinds and names of its layers.

Pools and padding have no weights, but Keras stores their layers too, so that a file says which pools its network has.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError
from inception_tf.models import NETWORKS, SCALE, find_network, switches, variant
from inception_tf.nn.network import HIDDEN_NORM, LOGITS, PREDICTIONS
from inception_tf.weights.formats import hdf5, keras_h5
from inception_tf.weights.formats.native import read_native
from inception_tf.weights.formats.stored import NOTHING
from inception_tf.weights.limits import class_count, network_limit
from inception_tf.weights.metadata import layer_arguments, read_metadata, stored_metadata
from inception_tf.weights.width import activation_of_config, same_filters, width_of_kernels

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = [
    "FileDescription",
    "describe_file",
    "has_layers_of",
    "is_of_package",
    "recognize_file",
    "variants_with",
]

SOFTMAX, SIGMOID = "softmax", "sigmoid"
Layers = Mapping[str, str]  # name → kind, of those in KINDS

# How the name of a class of Keras begins, in a file of weights and in a configuration → the kind of layer.
KINDS = {
    "conv2d": "conv",
    "separable_conv2d": "conv",
    "batch_normalization": "norm",
    "fused_batch_normalization": "norm",
    "max_pooling2d": "max",
    "average_pooling2d": "avg",
    "zero_padding2d": "pad",
    "activation": "activation",  # the endpoint of a local response normalization is one
}
LAYER = re.compile(r"/?layers/([^/]+?)(_\d+)?/vars")
VALUES = {
    "last_pool": ("avg", "max"),
    "output_stride": (16, 8),
}  # of switches that are not true or false


@dataclass(frozen=True)
class FileDescription:
    """What a weights file of this project says of itself."""

    network: str
    switches: dict[str, Any]
    layers: dict[str, Any]  # `activation` and `width_multiplier`, where they are not the default
    classes: int | None  # None: it has no classifier
    aux_logits: bool
    channels: int  # of its images
    preprocessing: Preprocessing
    why: str  # where the preprocessing is known from, for a message
    activation: str = SOFTMAX  # of its classifier, as far as the file says


def describe_file(
    path: str, name: str | None = None, switches: Mapping[str, Any] | None = None
) -> FileDescription:
    """The network, the variant, the classifier and the preprocessing of a weights file of this project.

    Args:
        path: A `.weights.h5`, `.keras` or `.h5` file.
        name: The network, if the user knows it; None: as the file says.
        switches: Switches that the user knows, which overrule the file's.

    Returns:
        The description.

    Raises:
        UserError: The file is damaged, of no network of this package or of several, or of another than `name`.
    """
    found, arguments = recognize_file(path, name)
    layers, chosen = layer_arguments(arguments)
    network = find_network(found)
    arrays = read_native(path, NOTHING, network_limit(network))
    _check_width(path, variant(found, **chosen), layers.get("width_multiplier", 1.0), arrays)
    head = [arrays[f"{LOGITS}/{number}"] for number in (1, 0) if f"{LOGITS}/{number}" in arrays]
    first = arrays.get(f"{network.backbone[0][0]}_conv/0")
    stored = stored_metadata(path).preprocessing
    why = "as the file says" if stored else "the file does not say; slim's are assumed"
    return FileDescription(
        found,
        chosen | dict(switches or {}),
        layers,
        class_count(head) if head else None,
        any(f"{one.name}/0" in arrays for one in variant(found, **chosen).auxiliaries),
        first.shape[2] if first is not None and first.ndim == 4 else 3,
        stored or Preprocessing(network.size),
        why,
        _activation_of_file(path),
    )


def _check_width(
    path: str, network: Network, width: float, arrays: Mapping[str, np.ndarray]
) -> None:
    """Checks that a width is that of the file's kernels, before a network of that width is built."""
    shown = width_of_kernels(_kernels(arrays), network)
    if width != 1 and (shown is None or not same_filters(network, shown, width)):
        raise UserError(
            f"the settings in '{path}' have width_multiplier={width}, and its kernels are of another width; convert the"
            " weights again"
        )


def _kernels(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shapes of the convolutions' kernels by layer."""
    return {
        name.removesuffix("/0"): array.shape
        for name, array in arrays.items()
        if name.endswith("_conv/0")
    }


def has_layers_of(model: keras.Model, network: Network) -> bool:
    """Whether a model has the layers of a variant, pools and padding included.

    Args:
        model: A model of this package.
        network: The variant's table.

    Returns:
        False for a model of another variant of the network.
    """
    return _fits(_layers_of_model(model), network)


def variants_with(layers: Layers, name: str) -> list[dict[str, Any]]:
    """The variants of a network that have certain layers.

    Args:
        layers: Names and kinds of all layers.
        name: The network.

    Returns:
        The switches of each, as they differ from the defaults.
    """
    return [chosen for chosen in _combinations(name) if _fits(layers, variant(name, **chosen))]


def recognize_file(path: str, name: str | None = None) -> tuple[str, dict[str, Any]]:
    """The network and the switches of a weights file of this project.

    Args:
        path: A `.weights.h5`, `.keras` or `.h5` file.
        name: The network, if the user knows it.

    Returns:
        The name and the arguments of `create_model`, switches, `activation` and `width_multiplier`: as stored in the
        file, or else as its layers show.

    Raises:
        UserError: It is of no network of this package, or of several.
    """
    stored = read_metadata(path)
    if stored.network:
        if name not in (None, stored.network):
            raise UserError(
                f"'{path}' is a file of {stored.network}, not of {name}; give the file of this network"
            )
        return stored.network, dict(stored.switches)
    limit = network_limit(find_network(name)) if name else None
    shown = _layers_of_file(path, limit)
    found = {one: fitting for one in NETWORKS if (fitting := variants_with(shown.layers, one))}
    widths = {
        one: [(width_of_kernels(shown.kernels, variant(one, **s)), s) for s in fitting]
        for one, fitting in found.items()
    }
    for fits in (lambda width: width == 1, lambda width: width is not None):
        if len(found) > 1:
            kept = {one: [s for width, s in tried if fits(width)] for one, tried in widths.items()}
            found = {one: fitting for one, fitting in kept.items() if fitting} or found
    if name is not None and name not in found:
        # A file of earlier versions, or one that load_weights will refuse in its own words.
        return name, dict(stored.switches)
    if name is None and len(found) != 1:
        which = (
            f"of several networks ({', '.join(found)})"
            if found
            else "of no network of this package"
        )
        raise UserError(f"'{path}' is {which}, by its layers; say with --model which it belongs to")
    name = name or next(iter(found))
    chosen = found[name][0]  # the published form, where another one has the same layers
    width = next(width for width, one in widths[name] if one == chosen)
    arguments = {"width_multiplier": width or 1.0, "activation": shown.activation or "relu"}
    return name, layer_arguments(arguments)[0] | chosen | dict(stored.switches)


def is_of_package(path: str) -> bool:
    """Whether a weights file is, by its layers, of one or several of this package's networks.

    Args:
        path: A `.weights.h5`, `.keras` or `.h5` file.

    Returns:
        False for the file of another network, and for one whose layers cannot be read by name.
    """
    try:
        if read_metadata(path).network:
            return True
        shown = _layers_of_file(path, None)
    except UserError:
        return False
    return any(variants_with(shown.layers, name) for name in NETWORKS)


def _combinations(name: str) -> Iterator[dict[str, Any]]:
    """Switches that decide which layers there are, the defaults first."""
    choices = {
        key: VALUES.get(key, (False, True) if isinstance(value, bool) else ())
        for key, value in switches(name).items()
        if key != SCALE
    }
    choices = {key: values for key, values in choices.items() if values}
    defaults = switches(name)
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        chosen = {key: value for key, value in chosen.items() if value != defaults[key]}
        try:
            variant(name, **chosen)
        except UserError:  # switches that exclude each other
            continue
        yield chosen


def _expected(network: Network) -> dict[str, str]:
    """The layers of a backbone by name."""
    found = {}
    for name, step in network.backbone:
        for layer in spec.iter_layers(name, step):
            one = layer.step
            base = layer.name
            if isinstance(one, spec.Conv | spec.Separable):
                found[f"{base}_conv"] = "conv"
                if network.batch_norm and isinstance(one, spec.Conv) and not one.has_bias:
                    found[f"{base}_bn"] = "norm"
            elif isinstance(one, spec.Pool):
                base = f"{base}_pool" if layer.path else base
                found[base] = one.kind
            elif isinstance(one, spec.LocalNorm):
                found[base] = "activation"
            if isinstance(getattr(one, "padding", None), int):
                found[f"{base}_pad"] = "pad"
    if network.hidden_batch_norm:
        found[HIDDEN_NORM] = "norm"
    return found


def _fits(layers: Layers, network: Network) -> bool:
    """Whether the layers are the network's, and none of another variant."""
    expected = _expected(network)
    if any(layers.get(name) != kind for name, kind in expected.items()):
        return False
    known = set(expected).union(*map(_expected, _others(network.name)))
    auxiliaries = tuple(one.name for one in network.auxiliaries)
    return not any(
        name not in expected and (name in known or kind in ("conv", "norm"))
        for name, kind in layers.items()
        if not (auxiliaries and name.startswith(auxiliaries))
    )


def _others(name: str) -> Iterable[Network]:
    return (variant(name, **chosen) for chosen in _combinations(name))


def _layers_of_model(model: keras.Model) -> Layers:
    found = {layer.name: _kind(_snake(type(layer).__name__)) for layer in model.layers}
    return {name: kind for name, kind in found.items() if kind}


class _Shown(NamedTuple):
    """What a file shows of its network without naming it."""

    layers: Layers
    kernels: dict[str, tuple[int, ...]]  # layer → shape
    activation: str | None  # after the convolutions, where a configuration is in the file


def _layers_of_file(path: str, limit: int | None) -> _Shown:
    arrays = read_native(path, NOTHING, limit)
    layers: dict[str, str] = {}
    config = _config_of_file(path)
    if config:
        layers = _layers_of_config(config)
    with hdf5.open_hdf5(path, limit) as file:
        for group in hdf5.groups(file, path):
            found = LAYER.fullmatch(group.name)
            if found and "name" in group.attrs:
                layers[hdf5.text(group, "name") or ""] = _kind(found[1])
    for name in {name.rpartition("/")[0] for name in arrays} - layers.keys():
        layers[name] = {"conv": "conv", "bn": "norm"}.get(name.rpartition("_")[2], "")
    return _Shown(
        {name: kind for name, kind in layers.items() if kind},
        _kernels(arrays),
        activation_of_config(config) if config else None,
    )


def _layers_of_config(config: str) -> dict[str, str]:
    """The layers of a model's configuration, which `model.save("x.h5")` stores."""
    try:
        layers = json.loads(config)["config"]["layers"]
        return {one["config"]["name"]: _kind(_snake(one["class_name"])) for one in layers}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _config_of_file(path: str) -> str | None:
    """The configuration that Keras stores with a whole model."""
    if path.endswith(".keras"):
        return keras_h5.config_of_keras_file(path)
    with hdf5.open_hdf5(path, None) as file:
        return hdf5.text(file, "model_config")


def _activation_of_file(path: str) -> str:
    """What a file with a model's configuration says of its classifier: independent classes, or else softmax."""
    try:
        layers = json.loads(_config_of_file(path) or "")["config"]["layers"]
        found = {one["config"]["name"]: one["config"].get("activation") for one in layers}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return SOFTMAX
    return SIGMOID if found.get(PREDICTIONS) == SIGMOID else SOFTMAX


def _kind(stem: str) -> str:
    return KINDS.get(stem, "")


def _snake(name: str) -> str:
    """`MaxPooling2D` → `max_pooling2d`, as Keras names the layers in a file."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
