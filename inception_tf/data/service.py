# SPDX-License-Identifier: Apache-2.0
"""The input pipeline on other machines: a tf.data service."""

from __future__ import annotations

import socket
from collections.abc import Callable

import tensorflow as tf

from inception_tf.errors import UserError

__all__ = ["by_service"]

CONNECT_TIMEOUT_S = 10.0


def by_service(address: str) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """A transformation that moves the preceding ones to the workers of a tf.data service.

    Args:
        address: str. The dispatcher, grpc://HOST:PORT.

    Returns:
        A function for `Dataset.apply`; each element is computed once, by one worker.

    Raises:
        UserError: Nothing answers at the address.
    """
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    try:  # TensorFlow would retry forever
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(
            f"no tf.data service answers at {address}: {error.strerror or error}; start its dispatcher and"
            " workers first, or use --set data.service=null"
        ) from error
    service = tf.data.experimental.service
    return service.distribute(processing_mode=service.ShardingPolicy.DYNAMIC, service=address)
