# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol over gRPC; needs no TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

from inception_tf.errors import UserError, missing_package
from inception_tf.serving.client.address import Address
from inception_tf.serving.client.rpc_channel import RpcChannel
from inception_tf.serving.client.v2_messages import SERVICE, message
from inception_tf.serving.client.v2_tensors import (
    BYTES,
    FP32,
    ModelMetadata,
    TensorMetadata,
    from_raw,
    from_values,
    to_raw,
)

__all__ = ["V2Rpc"]

# Type of a tensor → field of its values, where they do not come as bytes.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    FP32: "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class V2Rpc:
    """One model of a server; see `V2Transport`.

    Args:
        address: The served model.
        timeout: Seconds for all tries of a request.
        retries: Further tries of a request, at most 4 are made.
        request_bytes: Largest request, which is kept for another try.
    """

    def __init__(self, address: Address, timeout: float, retries: int, request_bytes: int) -> None:
        try:
            message("ModelInferRequest")
        except ImportError as error:
            raise missing_package("gRPC", "protobuf", "serve") from error
        self._model = address.model
        self._version = "" if address.version is None else str(address.version)
        self._server = RpcChannel(address, timeout, retries, request_bytes)

    def size(self, values: int, data: bytes | None) -> int:
        """Computes the bytes of an image in a request; see `V2Transport.size`."""
        return 4 * values if data is None else len(data) + 4

    def metadata(self) -> ModelMetadata:
        """Asks for the model's inputs and outputs; see `V2Transport.metadata`."""
        asked = message("ModelMetadataRequest")(name=self._model, version=self._version)
        reply = self._call("ModelMetadata", asked)
        return ModelMetadata(tuple(reply.versions), _tensors(reply.inputs), _tensors(reply.outputs))

    def is_ready(self, version: str | None) -> bool:
        """Asks whether a version takes requests; see `V2Transport.is_ready`."""
        asked = message("ModelReadyRequest")(name=self._model, version=version or self._version)
        try:
            reply = self._call("ModelReady", asked)
        except UserError:
            return False
        return bool(reply.ready)

    def infer(self, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a request; see `V2Transport.infer`."""
        kind = BYTES if array.dtype == object else FP32
        request = message("ModelInferRequest")(
            model_name=self._model,
            model_version=self._version,
            raw_input_contents=[to_raw(array)],
        )
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        reply = self._call("ModelInfer", request)
        raw = list(reply.raw_output_contents)
        if raw and len(raw) != len(reply.outputs):
            raise ValueError(f"{len(raw)} contents for {len(reply.outputs)} outputs")
        found = {}
        for number, output in enumerate(reply.outputs):
            kind, shape = output.datatype, output.shape
            if raw:
                found[output.name] = from_raw(raw[number], kind, shape)
            elif kind in CONTENTS:
                values = getattr(output.contents, CONTENTS[kind])
                found[output.name] = from_values(values, kind, shape)
            else:
                raise ValueError(f"the type {kind!r}")
        return found

    def close(self) -> None:
        """Closes the connection."""
        self._server.close()

    def _call(self, method: str, request: Any) -> Any:
        call = self._server.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message(f"{method}Response").FromString,
        )
        return self._server.send(call, request)


def _tensors(found: Any) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(one.name, one.datatype, tuple(one.shape)) for one in found)
