# SPDX-License-Identifier: Apache-2.0
"""A gRPC channel to a server: retries, time limits, and one sentence for each failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from inception_tf.errors import missing_package
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.errors import HTTP_CODES, error_reply, timeout_error

try:
    import grpc
except ImportError as error:
    raise missing_package("gRPC", "grpcio", "serve") from error

__all__ = ["RpcChannel"]

RETRY_LIMIT = 4  # gRPC makes no more than five tries
# Seconds before the first retry, doubled for each further one, and at most.
BACKOFF, BACKOFF_LIMIT = 0.25, 8.0
TOO_LARGE = ("larger than max", 413)  # gRPC's words for a message over the server's limit


class RpcChannel:
    """A connection to the server of one model; several threads may use it at the same time.

    Args:
        address: The served model.
        timeout: Seconds for all tries of a request.
        retries: Further tries of a request, at most 4 are made.
        request_bytes: Largest request, which is kept for another try.
    """

    def __init__(self, address: Address, timeout: float, retries: int, request_bytes: int) -> None:
        self._address = address
        self._timeout = timeout
        options = _options(retries, request_bytes)
        if address.scheme == "grpcs":
            secure = grpc.ssl_channel_credentials()
            self.channel = grpc.secure_channel(address.host_port, secure, options)
        else:
            self.channel = grpc.insecure_channel(address.host_port, options)

    def close(self) -> None:
        """Closes the connection."""
        self.channel.close()

    def send(self, call: Callable[..., Any], request: Any) -> Any:
        """Sends a request.

        Args:
            call: A method of a stub, or what `channel.unary_unary` gives.
            request: Its message.

        Returns:
            The reply's message.

        Raises:
            UserError: The server cannot be reached, does not reply in time, or reports an error.
        """
        try:
            return call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise timeout_error(self._address, self._timeout) from error
            name, words = error.code().name, error.details() or ""
            code = HTTP_CODES.get(name, 500)
            if TOO_LARGE[0] in words:
                code = TOO_LARGE[1]
            raise error_reply(self._address, code, words, name) from error


def _options(retries: int, request_bytes: int) -> list[tuple[str, object]]:
    policy = {
        "maxAttempts": min(retries, RETRY_LIMIT) + 1,
        "initialBackoff": f"{BACKOFF}s",
        "maxBackoff": f"{BACKOFF_LIMIT}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    method = {"name": [{}], "retryPolicy": policy} if retries else {"name": [{}]}
    return [
        ("grpc.service_config", json.dumps({"methodConfig": [method]})),
        # A request is kept for another try only where it fits: by default 256 kB, two photographs.
        ("grpc.per_rpc_retry_buffer_size", 2 * request_bytes),
        ("grpc.max_receive_message_length", -1),
    ]
