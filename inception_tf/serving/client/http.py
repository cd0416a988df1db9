# SPDX-License-Identifier: Apache-2.0
"""HTTP to a server: connections that are kept, retries, time limits, and one sentence for each failure."""

from __future__ import annotations

import json
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

__all__ = ["HttpSession"]

BACKOFF = (
    0.25  # seconds before the second retry, doubled for each further one; the first is at once
)
BACKOFF_LIMIT = 8.0  # seconds
JITTER = 0.25  # seconds, at most: clients that were rejected together do not return together
POOL_SIZE = 64  # open connections that are kept for the next request
TIMEOUTS = (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError)
# A redirect to what is no address raises the last one before its code can be looked at.
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError)
JSON_TYPE = "application/json"


class HttpSession:
    """Requests to one served model; several threads may use it at the same time.

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

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """Sends a request.

        Args:
            method: `GET` or `POST`.
            url: Where to.
            body: What to send.
            headers: Besides the content type, JSON unless they have another.

        Returns:
            A reply with code 200.

        Raises:
            UserError: The server cannot be reached, does not reply in time, or replies with another code.
        """
        try:
            reply = self._session.request(
                method,
                url,
                data=body,
                headers={"Content-Type": JSON_TYPE} | (headers or {}),
                timeout=self._timeout,
                allow_redirects=False,  # a redirected POST would come back as a GET
            )
        except (requests.Timeout, *TIMEOUTS) as error:
            raise timeout_error(self._address, self._timeout) from error
        except FAILURES as error:
            raise UserError(
                f"{self._address} cannot be reached: {_reason(error)}; check that the server runs there"
            ) from error
        if reply.status_code != 200:
            raise error_reply(self._address, reply.status_code, error_message(reply.content))
        return reply

    def json(self, content: bytes) -> dict[str, Any]:
        """Parses a reply.

        Args:
            content: Its body.

        Returns:
            The JSON object.

        Raises:
            UserError: It is something else.
        """
        try:
            # Python's own parser takes the bare NaN that TensorFlow Serving writes.
            found = json.loads(content)
        except (ValueError, RecursionError):  # no JSON, or nested too deeply
            found = None
        if not isinstance(found, dict):
            start = content[:80].decode(errors="replace")
            raise unexpected_reply(self._address, f"no JSON object, but '{start}'")
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
        try:
            seconds = super().get_retry_after(response)
        except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            return None  # as if it said nothing: neither seconds nor a date
        return None if seconds is None else min(seconds, BACKOFF_LIMIT)


def _reason(error: BaseException) -> str:
    """The operating system's message, which requests and urllib3 wrap several times."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
