# SPDX-License-Identifier: Apache-2.0
"""The input side on other machines: a tf.data service."""

from __future__ import annotations

import socket

import tensorflow as tf

from inception_tf.errors import UserError

__all__ = ["by_service"]

PATIENCE = 10.0  # seconds for a service to answer


def by_service(address: str):
    """What is before it is computed by the workers of a tf.data service, each element once."""
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    try:  # TensorFlow would ask again for ever
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        raise UserError(
            f"no tf.data service answers at {address}: {error.strerror or error}; start its dispatcher and"
            " workers first, or take --set data.service=null"
        ) from error
    service = tf.data.experimental.service
    return service.distribute(processing_mode=service.ShardingPolicy.DYNAMIC, service=address)
