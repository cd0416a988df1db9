# SPDX-License-Identifier: Apache-2.0
"""Where servers for this machine alone listen."""

from __future__ import annotations

import os
import socket

from inception_tf.errors import UserError

__all__ = ["HOST", "listen"]

HOST = "127.0.0.1"


def listen(port: int, option: str) -> socket.socket:
    """Opens a port at 127.0.0.1; connections wait there until a server accepts them.

    Args:
        port: Its number, 0 for any that is free.
        option: The option that gives the port, for the error, such as `--port`.

    Returns:
        The bound and listening socket.

    Raises:
        UserError: The port cannot be opened.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"{option} must be in [0, 65535], got {port}")
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        # The message of the error repeats the address.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(
            f"port {port} cannot be taken: {reason}; give another with {option}"
        ) from error
