# SPDX-License-Identifier: Apache-2.0
"""The networks of the family by name: tables only, no Keras before `build.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from inception_tf.arch.spec import Network
from inception_tf.errors import unknown
from inception_tf.models.baselines import alexnet, vgg16
from inception_tf.models.bn_inception import bn_inception, inception, inception_v2
from inception_tf.models.googlenet import googlenet, inception_v1
from inception_tf.models.inception_resnet import inception_resnet_v1, inception_resnet_v2
from inception_tf.models.inception_v3 import inception_v3
from inception_tf.models.inception_v4 import inception_v4

__all__ = ["NETWORKS", "find", "list_models", "switches", "variant"]

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

NETWORKS: dict[str, Network] = {name: make() for name, make in _VARIANTS.items()}


def list_models() -> list[str]:
    """Names that `create_model` takes, in the order of their papers."""
    return list(NETWORKS)


def find(name: str) -> Network:
    """The network of that name; `UserError` with the nearest name otherwise."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]


def variant(name: str, **chosen) -> Network:
    """The network `name` with its own switches set, such as `variant("googlenet", lrn=False)`."""
    find(name)
    return _VARIANTS[name](**chosen)


def switches(name: str) -> dict[str, object]:
    """The switches of the network `name` with their defaults; none for most."""
    find(name)
    parameters = inspect.signature(_VARIANTS[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}
