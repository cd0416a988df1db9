# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol over REST: tensors as bytes after the JSON where the server has that, else as JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from inception_tf.errors import UserError
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.http import HttpSession
from inception_tf.serving.client.v2_tensors import (
    BYTES,
    FP32,
    ModelMetadata,
    TensorMetadata,
    from_json,
    from_raw,
    to_json,
    to_raw,
)

__all__ = ["V2Rest"]

BINARY = "binary_tensor_data"  # among a server's extensions
HEADER_LENGTH = "Inference-Header-Content-Length"
DIGITS = 26  # characters of a float32 in JSON as float64, at most


class V2Rest:
    """One model of a server; see `V2Transport`.

    Args:
        address: The served model.
        timeout: Seconds that the server may be silent.
        retries: Further tries of a request.
    """

    def __init__(self, address: Address, timeout: float, retries: int) -> None:
        self._url = address.url
        self._server = address.url.rpartition("/v2/models/")[0] + "/v2"
        self._http = HttpSession(address, timeout, retries)
        self._lock = threading.Lock()
        self._binary: bool | None = None

    def size(self, values: int, data: bytes | None) -> int:
        """Computes the bytes of an image in a request; see `V2Transport.size`."""
        if self._is_binary():
            return 4 * values if data is None else len(data) + 4
        return DIGITS * values if data is None else (len(data) + 2) // 3 * 4 + len('"", ')

    def metadata(self) -> ModelMetadata:
        """Asks for the model's inputs and outputs; see `V2Transport.metadata`."""
        found = self._http.json(self._http.send("GET", self._url).content)
        return ModelMetadata(
            tuple(str(version) for version in found.get("versions") or ()),
            *(_tensors(found.get(side) or ()) for side in ("inputs", "outputs")),
        )

    def is_ready(self, version: str | None) -> bool:
        """Asks whether a version takes requests; see `V2Transport.is_ready`."""
        url = self._url + (f"/versions/{version}" if version else "")
        try:
            # Triton's reply has no body, others say it in JSON.
            content = self._http.send("GET", f"{url}/ready").content
        except UserError:
            return False
        return not content or self._http.json(content).get("ready") is not False

    def infer(self, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a request; see `V2Transport.infer`."""
        kind = BYTES if array.dtype == object else FP32
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(array.shape)}
        if not self._is_binary():
            body = json.dumps({"inputs": [tensor | to_json(array)]}).encode()
            return _outputs(self._http.json(self._post(body, {})[0]), b"")
        raw = to_raw(array)
        tensor["parameters"] = {"binary_data_size": len(raw)}
        wanted = {"binary_data_output": True}
        head = json.dumps({"inputs": [tensor], "parameters": wanted}).encode()
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        content, length = self._post(head + raw, headers)
        return _outputs(self._http.json(content[:length]), content[length:])

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[bytes, int]:
        """Returns a reply's body, and how much of it is JSON."""
        reply = self._http.send("POST", f"{self._url}/infer", body, headers)
        length = reply.headers.get(HEADER_LENGTH, "")
        return reply.content, int(length) if length.isdecimal() else len(reply.content)

    def _is_binary(self) -> bool:
        with self._lock:
            if self._binary is None:
                extensions = self._http.json(self._http.send("GET", self._server).content)
                self._binary = BINARY in (extensions.get("extensions") or ())
        return self._binary


def _tensors(found: Any) -> tuple[TensorMetadata, ...]:
    return tuple(
        TensorMetadata(str(one["name"]), str(one["datatype"]), tuple(map(int, one["shape"])))
        for one in found
    )


def _outputs(reply: Mapping[str, Any], raw: bytes) -> dict[str, np.ndarray]:
    found, place = {}, 0
    for output in reply["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = from_json(output)
            continue
        part, place = raw[place : place + size], place + size
        found[output["name"]] = from_raw(part, output["datatype"], output["shape"])
    return found
