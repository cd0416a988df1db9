# SPDX-License-Identifier: Apache-2.0
"""Export, its proof, and clients and servers of what was exported.

Importing this package imports neither TensorFlow nor a server's protos; the first name used does what it needs.
"""

from __future__ import annotations

__all__ = ["Client"]


def __getattr__(name: str):
    if name != "Client":
        raise AttributeError(f"module 'inception_tf.serving' has no attribute '{name}'")
    from inception_tf.serving.client.client import Client

    return Client
