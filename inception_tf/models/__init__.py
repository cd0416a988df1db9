# SPDX-License-Identifier: Apache-2.0
"""The networks of the family by name: tables only, no Keras before `build.py`."""

from __future__ import annotations

from inception_tf.errors import unknown
from inception_tf.models.googlenet import INCEPTION_V1
from inception_tf.models.inception_v3 import INCEPTION_V3
from inception_tf.spec import Network

__all__ = ["NETWORKS", "find", "list_models"]

NETWORKS: dict[str, Network] = {n.name: n for n in (INCEPTION_V1, INCEPTION_V3)}


def list_models() -> list[str]:
    """Names that `create_model` takes, oldest network first."""
    return list(NETWORKS)


def find(name: str) -> Network:
    """The network of that name; `UserError` with the nearest name otherwise."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]
