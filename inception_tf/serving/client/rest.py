# SPDX-License-Identifier: Apache-2.0
"""Predictions over TensorFlow Serving's REST API; KServe's V1 protocol is the same for these."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from inception_tf.serving.client.address import Address
from inception_tf.serving.client.errors import unexpected_reply
from inception_tf.serving.client.http import HttpSession

__all__ = ["RestConnection"]

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
        self._http = HttpSession(address, timeout, retries)

    def size(self, data: bytes) -> int:
        """Computes the bytes that an image takes in a request; see `Connection.size`."""
        return (len(data) + 2) // 3 * 4 + ROW

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classifies images in one request; see `Connection.predict`."""
        rows = [{"b64": base64.b64encode(data).decode()} for data in images]
        body = json.dumps({"instances": rows}).encode()
        reply = self._http.send("POST", f"{self._address.url}:predict", body)
        predictions = self._http.json(reply.content).get("predictions")
        if not isinstance(predictions, list):
            raise unexpected_reply(self._address, "no list of predictions")
        return predictions

    def status(self) -> dict[int | str | None, str]:
        """Returns {version: state} as the server reports; KServe has no versions: `{None: "AVAILABLE"}`."""
        found = self._http.json(self._http.send("GET", self._address.url).content)
        if "model_version_status" in found:
            try:
                versions = found["model_version_status"]
                return {int(version["version"]): str(version["state"]) for version in versions}
            except (KeyError, TypeError, ValueError) as error:
                raise unexpected_reply(self._address, "no states of versions") from error
        if found.get("ready") is True:
            return {None: "AVAILABLE"}
        raise unexpected_reply(self._address, "no model_version_status")

    def close(self) -> None:
        self._http.close()
