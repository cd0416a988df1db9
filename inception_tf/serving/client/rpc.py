# SPDX-License-Identifier: Apache-2.0
"""Predictions over TensorFlow Serving's gRPC API.  Its protos import TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from inception_tf.errors import missing_package
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.errors import (
    HTTP_CODES,
    error_reply,
    timeout_error,
    unexpected_reply,
)

try:
    import grpc
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
except ImportError as error:
    raise missing_package("gRPC", "tensorflow-serving-api", "serve") from error

import tensorflow as tf

__all__ = ["GrpcConnection"]

SIGNATURE, INPUT = "serving_default", "image_bytes"
ROW = 16  # bytes around an image in a request, at most
RETRY_LIMIT = 4  # gRPC makes no more than five tries


class GrpcConnection:
    """One model of a server; several threads may use it at the same time.

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
            self._channel = grpc.secure_channel(address.host_port, secure, options)
        else:
            self._channel = grpc.insecure_channel(address.host_port, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def size(self, data: bytes) -> int:
        """Computes the bytes that an image takes in a request; see `Connection.size`."""
        return len(data) + ROW

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classifies images in one request; see `Connection.predict`."""
        request = predict_pb2.PredictRequest()
        self._specify(request.model_spec)
        request.model_spec.signature_name = SIGNATURE
        request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(list(images), tf.string))
        reply = self._send(self._predictions.Predict, request)
        try:
            columns = {name: _plain(tensor) for name, tensor in reply.outputs.items()}
            rows = zip(*columns.values(), strict=True)
            return [dict(zip(columns, row, strict=True)) for row in rows]
        except (TypeError, ValueError) as error:
            raise unexpected_reply(self._address, f"outputs that are not rows ({error})") from error

    def status(self) -> dict[int | None, str]:
        """Returns {version: state} as the server reports."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._specify(request.model_spec)
        reply = self._send(self._models.GetModelStatus, request)
        states = get_model_status_pb2.ModelVersionStatus.State
        return {v.version: states.Name(v.state) for v in reply.model_version_status}

    def close(self) -> None:
        self._channel.close()

    def _specify(self, spec: model_pb2.ModelSpec) -> None:
        spec.name = self._address.model
        if self._address.version is not None:
            spec.version.value = self._address.version
        if self._address.label is not None:
            spec.version_label = self._address.label

    def _send(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise timeout_error(self._address, self._timeout) from error
            name = error.code().name
            code = HTTP_CODES.get(name, 500)
            raise error_reply(self._address, code, error.details() or "", name) from error


def _options(retries: int, request_bytes: int) -> list[tuple[str, object]]:
    policy = {
        "maxAttempts": min(retries, RETRY_LIMIT) + 1,
        "initialBackoff": "0.25s",
        "maxBackoff": "8s",
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


def _plain(tensor: tf.compat.v1.TensorProto) -> list[Any]:
    """A TensorProto as nested lists of numbers and str."""
    return _text(tf.make_ndarray(tensor).tolist())


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value
