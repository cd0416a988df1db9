# SPDX-License-Identifier: Apache-2.0
"""The networks of the family by name: tables only, without Keras."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from inception_tf.arch.spec import Network
from inception_tf.errors import UserError, unknown
from inception_tf.models.baselines import alexnet, vgg16
from inception_tf.models.bn_inception import bn_inception, inception, inception_v2
from inception_tf.models.googlenet import googlenet, inception_v1
from inception_tf.models.inception_resnet import inception_resnet_v1, inception_resnet_v2
from inception_tf.models.inception_v3 import inception_v3
from inception_tf.models.inception_v4 import inception_v4

__all__ = [
    "NETWORKS",
    "SCALE",
    "find_network",
    "list_models",
    "switches",
    "variant",
    "wrong_switch",
]


_FAMILY: tuple[Callable[..., Network], ...] = (
    googlenet,
    inception_v1,
    inception,
    bn_inception,
    inception_v2,
    inception_v3,
    inception_v4,
    inception_resnet_v1,
    inception_resnet_v2,
    alexnet,
    vgg16,
)
_VARIANTS = {make.__name__: make for make in _FAMILY}

# Of all networks: a gamma in every batch normalization, as torch's have it and slim's and Keras' do not.
NUMBER = 0.01  # of a switch that is none unless it is set
SCALE = "batch_norm_scale"

NETWORKS: dict[str, Network] = {name: make() for name, make in _VARIANTS.items()}


def list_models() -> list[str]:
    """The names that `create_model` accepts.

    Returns:
        Names in the order of the papers, the baselines last.

    Example:
        >>> inception_tf.list_models()[:2]
        ['googlenet', 'inception_v1']
    """
    return list(NETWORKS)


def find_network(name: str) -> Network:
    """The table of a network.

    Args:
        name: str. One of `list_models()`.

    Returns:
        The published network, without variant switches.

    Raises:
        UserError: The name is unknown; the message has the nearest one.
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]


def variant(name: str, **chosen: Any) -> Network:
    """A network with its variant switches set, such as `variant("googlenet", lrn=False)`.

    Args:
        name: str. One of `list_models()`.
        **chosen: Switches and their values, as `switches` lists them; the others keep their defaults.

    Returns:
        The table of the variant.

    Raises:
        UserError: The name is unknown, or a value is not allowed.
    """
    find_network(name)
    scale = chosen.pop(SCALE, False)
    if not isinstance(scale, bool):
        raise UserError(f"{SCALE} must be True or False, got {scale!r}")
    network = _VARIANTS[name](**chosen)
    if scale and not (network.batch_norm or network.hidden_batch_norm):
        raise UserError(
            f"{name} has no batch normalization that {SCALE} could give a gamma; omit {SCALE}"
        )
    return dataclasses.replace(network, batch_norm_scale=scale)


def switches(name: str) -> dict[str, object]:
    """The variant switches of a network: its own, and `batch_norm_scale`, which all have.

    Args:
        name: str. One of `list_models()`.

    Returns:
        Switch → default value.

    Raises:
        UserError: The name is unknown.
    """
    find_network(name)
    parameters = inspect.signature(_VARIANTS[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters} | {SCALE: False}


def wrong_switch(name: str, switch: str, value: object) -> object | None:
    """Tells a switch's value of another type; its range is checked by `variant`.

    Args:
        name: One of `list_models()`.
        switch: A key of `switches(name)`.
        value: The value.

    Returns:
        A value of the right type, for an error's text; None where the value has it.
    """
    default = switches(name)[switch]
    if default is None:  # a number, or none
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if value is None or is_number else NUMBER
    return None if type(value) is type(default) else default
