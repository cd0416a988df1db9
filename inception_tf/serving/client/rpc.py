# SPDX-License-Identifier: Apache-2.0
"""Predictions over TensorFlow Serving's gRPC API.  Its protos import TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inception_tf.errors import missing_package
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.errors import unexpected_reply
from inception_tf.serving.client.rpc_channel import RpcChannel

try:
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
# A shape that its values do not fit, or that no memory could hold, ends in one of these.
NO_ROWS = (TypeError, ValueError, MemoryError, OverflowError)


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
        self._server = RpcChannel(address, timeout, retries, request_bytes)
        channel = self._server.channel
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def size(self, data: bytes) -> int:
        """Computes the bytes that an image takes in a request; see `Connection.size`."""
        return len(data) + ROW

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Classifies images in one request; see `Connection.predict`."""
        request = predict_pb2.PredictRequest()
        self._specify(request.model_spec)
        request.model_spec.signature_name = SIGNATURE
        request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(list(images), tf.string))
        reply = self._server.send(self._predictions.Predict, request)
        try:
            columns = {name: _plain(tensor) for name, tensor in reply.outputs.items()}
            rows = zip(*columns.values(), strict=True)
            return [dict(zip(columns, row, strict=True)) for row in rows]
        except NO_ROWS as error:
            raise unexpected_reply(self._address, f"outputs that are not rows ({error})") from error

    def status(self) -> dict[int | str | None, str]:
        """Returns {version: state} as the server reports."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._specify(request.model_spec)
        reply = self._server.send(self._models.GetModelStatus, request)
        names = {n: name for name, n in get_model_status_pb2.ModelVersionStatus.State.items()}
        return {
            version.version: names.get(version.state, str(version.state))
            for version in reply.model_version_status
        }

    def close(self) -> None:
        self._server.close()

    def _specify(self, spec: model_pb2.ModelSpec) -> None:
        spec.name = self._address.model
        if self._address.version is not None:
            spec.version.value = int(self._address.version)
        if self._address.label is not None:
            spec.version_label = self._address.label


def _plain(tensor: tf.compat.v1.TensorProto) -> list[Any]:
    """A TensorProto as nested lists of numbers and str."""
    return _text(tf.make_ndarray(tensor).tolist())


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value
