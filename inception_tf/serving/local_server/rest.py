# SPDX-License-Identifier: Apache-2.0
"""KServe's REST server around a `LocalModel`, with TensorFlow Serving's rows, columns and base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import contextvars
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from inception_tf.errors import missing_package
from inception_tf.export.sample_requests import bytes_array
from inception_tf.serving.client.errors import HTTP_CODES
from inception_tf.serving.local_server.cancellation import Cancellation
from inception_tf.serving.local_server.kserve_internals import KSERVE
from inception_tf.serving.local_server.model import DEFAULT_SIGNATURE, LocalModel, ServedError

try:
    import kserve
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from kserve.errors import InvalidInput
except ImportError as error:
    raise missing_package("the local server", "kserve", "kserve") from error

__all__ = ["serve_rest"]

SERVED = re.compile(r"/|/v1/models(/[^/:]+(:predict)?)?/?")  # of KServe's paths
LACKING = (
    "{path} is not served: this server, for tests, has GET /v1/models/NAME and POST /v1/models/NAME:predict alone,"
    " without versions, labels, :classify, :regress, metadata, metrics, a repository and the Open Inference Protocol"
)
# What values that no tensor has end in: nested too deeply, too large, no text.
NO_TENSOR = (RecursionError, OverflowError, UnicodeError)
# Of the request that this task works on.
CANCELLATION: contextvars.ContextVar[Cancellation] = contextvars.ContextVar("cancellation")


def serve_rest(model: LocalModel, listening: socket.socket, threads: int) -> None:
    """Replies to requests until SIGTERM.

    Args:
        model: What is served.
        listening: A bound and listening socket, because KServe itself would bind 0.0.0.0.
        threads: Requests that run at the same time.
    """
    repository = kserve.ModelRepository()
    repository.update(_Model(model, ThreadPoolExecutor(threads)))
    app = KSERVE.get("app")
    app.add_exception_handler(ServedError, _report_error)
    app.add_middleware(_CancelWhenGone)
    app.add_middleware(_OneApi)
    server = KSERVE.get("RESTServer")(
        "kserve.model_server:app",
        KSERVE.get("DataPlane")(repository),
        KSERVE.get("ModelRepositoryExtension")(repository),
        listening.getsockname()[1],
        grace_period=1,
    )
    server.run(sockets=[listening])


class _OneApi:
    """Answers all paths but TensorFlow Serving's itself: of KServe's own some change what is served."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or SERVED.fullmatch(path):
            await self._app(scope, receive, send)
            return
        reply = JSONResponse({"error": LACKING.format(path=path)}, 404)
        await reply(scope, receive, send)


class _CancelWhenGone:
    """Cancels a request whose client has closed the connection."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cancellation = Cancellation()
        CANCELLATION.set(cancellation)
        read, gone = asyncio.Event(), asyncio.Event()

        async def receive_body() -> Any:
            if read.is_set():
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if not message.get("more_body"):
                read.set()
            return message

        async def watch() -> None:
            await read.wait()
            await receive()  # after the body: that the client is gone, or has its reply
            cancellation.cancel()
            gone.set()

        watching = asyncio.create_task(watch())
        try:
            await self._app(scope, receive_body, send)
        finally:
            watching.cancel()
            cancellation.cancel()  # also where the server stops
            with contextlib.suppress(asyncio.CancelledError):
                await watching


class _Model(kserve.Model):
    """Runs requests in threads, so that none waits for another."""

    def __init__(self, model: LocalModel, threads: ThreadPoolExecutor) -> None:
        super().__init__(model.name)
        self._model, self._threads = model, threads
        self.ready = True

    async def predict(
        self, payload: Any, headers: Any = None, response_headers: Any = None
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, _run_request, self._model, payload, CANCELLATION.get()
        )


async def _report_error(_: Request, error: ServedError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, HTTP_CODES.get(error.code, 500))


def _run_request(model: LocalModel, payload: Any, cancellation: Cancellation) -> dict[str, Any]:
    try:
        return _answer(model, payload, cancellation)
    except NO_TENSOR as error:
        raise InvalidInput(f"values that are no tensor: {type(error).__name__}") from error


def _answer(model: LocalModel, payload: Any, cancellation: Cancellation) -> dict[str, Any]:
    """Runs a request's body: `instances` give `predictions`, `inputs` give `outputs`.

    payload: bytes where the content type is not JSON's, which TensorFlow Serving ignores.
    """
    if isinstance(payload, bytes):
        try:
            payload = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"JSON Parse error: {error}") from error
    if not isinstance(payload, dict) or ("instances" in payload) == ("inputs" in payload):
        raise InvalidInput("Missing 'inputs' or 'instances' key")
    signature = payload.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(signature, str):
        raise InvalidInput("'signature_name' key must be a string value.")
    specs = model.specs(signature)
    by_row = "instances" in payload
    columns = (
        _transposed(payload["instances"], specs) if by_row else _columns(payload["inputs"], specs)
    )
    inputs = {name: _array(value) for name, value in columns.items()}
    found = model.run(signature, inputs, cancellation)
    outputs = {name: _plain(array) for name, array in found.items()}
    if not by_row:
        return {"outputs": outputs}
    names = list(outputs)
    return {
        "predictions": [
            dict(zip(names, row, strict=True)) for row in zip(*outputs.values(), strict=True)
        ]
    }


def _columns(inputs: Any, specs: Mapping[str, Any]) -> Mapping[str, Any]:
    return inputs if isinstance(inputs, dict) and "b64" not in inputs else {_only(specs): inputs}


def _transposed(rows: Any, specs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Rows, each a value or a dict of values by name, as columns."""
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("No values in 'instances' array")
    named = [
        row if isinstance(row, dict) and "b64" not in row else {_only(specs): row} for row in rows
    ]
    if any(set(row) != set(specs) for row in named):
        raise InvalidInput(
            f"Failed to process an element of 'instances' list: keys must be equal to: {','.join(specs)}"
        )
    return {name: [row[name] for row in named] for name in specs}


def _only(specs: Mapping[str, Any]) -> str:
    if len(specs) > 1:
        raise InvalidInput("expecting an object as multiple input tensors required")
    return next(iter(specs))


def _array(value: Any) -> np.ndarray:
    """Nested lists → numbers as they are, strings and `{"b64": ...}` as an object array of bytes."""
    if isinstance(value, list) and value and isinstance(value[0], str | dict):
        return bytes_array([_bytes(item) for item in value])
    try:
        return np.array(value)
    except ValueError as error:
        raise InvalidInput(f"Encountered list at unexpected size: {error}") from error


def _bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    try:
        return base64.b64decode(item["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error) as error:
        raise InvalidInput("JSON Value not formatted correctly for base64 data") from error


def _plain(array: np.ndarray) -> list[Any]:
    if array.dtype != object:
        return list(array)  # of arrays, which KServe writes with float32's own digits
    return np.vectorize(bytes.decode, otypes=[object])(array).tolist()
