# SPDX-License-Identifier: Apache-2.0
"""Clients, batch prediction and servers for exported models.

Importing this package imports neither TensorFlow nor a server's protos; the first name used imports what it needs.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name != "Client":
        raise AttributeError(f"module 'inception_tf.serving' has no attribute '{name}'")
    from inception_tf.serving.client.client import Client

    return Client
