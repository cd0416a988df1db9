# SPDX-License-Identifier: Apache-2.0
"""Predictions over TensorFlow Serving's REST API; KServe's V1 protocol is the same for these."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from inception_tf.errors import UserError, missing_package
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.errors import (
    RETRIED_CODES,
    error_message,
    error_reply,
    timeout_error,
    unexpected_reply,
)

try:
    import requests
    import urllib3
except ImportError as error:
    raise missing_package("a server's REST API", "requests", "serve") from error

__all__ = ["RestConnection"]

BACKOFF = (
    0.25  # seconds before the second retry, doubled for each further one; the first is at once
)
BACKOFF_LIMIT = 8.0  # seconds
JITTER = 0.25  # seconds, at most: clients that were rejected together do not return together
POOL_SIZE = 64  # open connections that are kept for the next request
TIMEOUTS = (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError)
ROW = len('{"b64": ""}, ')  # bytes around an image in a request


class RestConnection:
    """One model of a server; several threads may use it at the same time.

    Args:
        address: The served model.
        timeout: Seconds that the server may be silent.
        retries: Further tries of a request.
    """

    def __init__(self, address: Address, timeout: float, retries: int) -> None:
        self._address = address
        self._timeout = timeout
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(
            max_retries=_Retries(
                retries,
                allowed_methods=None,  # a prediction changes nothing: POST may be repeated
                status_forcelist=RETRIED_CODES,
                raise_on_status=False,
                backoff_factor=BACKOFF,
                backoff_max=BACKOFF_LIMIT,
                backoff_jitter=JITTER,
            ),
            pool_maxsize=POOL_SIZE,
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def size(self, data: bytes) -> int:
        """Computes the bytes that an image takes in a request; see `Connection.size`."""
        return (len(data) + 2) // 3 * 4 + ROW

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classifies images in one request; see `Connection.predict`."""
        rows = [{"b64": base64.b64encode(data).decode()} for data in images]
        reply = self._send("POST", ":predict", json.dumps({"instances": rows}).encode())
        predictions = self._json(reply).get("predictions")
        if not isinstance(predictions, list):
            raise unexpected_reply(self._address, "no list of predictions")
        return predictions

    def status(self) -> dict[int | None, str]:
        """Returns {version: state} as the server reports; KServe has no versions: `{None: "AVAILABLE"}`."""
        found = self._json(self._send("GET", ""))
        if "model_version_status" in found:
            versions = found["model_version_status"]
            return {int(version["version"]): version["state"] for version in versions}
        if found.get("ready") is True:
            return {None: "AVAILABLE"}
        raise unexpected_reply(self._address, "no model_version_status")

    def close(self) -> None:
        self._session.close()

    def _send(self, method: str, verb: str, body: bytes | None = None) -> requests.Response:
        try:
            reply = self._session.request(
                method,
                self._address.url + verb,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self._timeout,
                allow_redirects=False,  # a redirected POST would come back as a GET
            )
        except (requests.Timeout, *TIMEOUTS) as error:
            raise timeout_error(self._address, self._timeout) from error
        except requests.RequestException as error:
            raise UserError(
                f"{self._address} cannot be reached: {_reason(error)}; check that the server runs there"
            ) from error
        if reply.status_code != 200:
            raise error_reply(self._address, reply.status_code, error_message(reply.content))
        return reply

    def _json(self, reply: requests.Response) -> dict[str, Any]:
        try:
            # Python's own parser takes the bare NaN that TensorFlow Serving writes.
            found = json.loads(reply.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise unexpected_reply(self._address, f"no JSON object, but '{reply.text[:80]}'")
        return found


class _Retries(urllib3.Retry):
    """As urllib3's, but a timeout is not retried, and a server cannot demand a long pause."""

    def increment(  # type: ignore[override]  # as it is called, the error by its name
        self, *arguments: Any, error: Exception | None = None, **more: Any
    ) -> urllib3.Retry:
        was_refused = isinstance(
            error, urllib3.exceptions.NewConnectionError
        )  # a timeout to urllib3
        if isinstance(error, TIMEOUTS) and not was_refused:
            raise error
        return super().increment(*arguments, **more | {"error": error})

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, BACKOFF_LIMIT)


def _reason(error: BaseException) -> str:
    """The operating system's message, which requests and urllib3 wrap several times."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
