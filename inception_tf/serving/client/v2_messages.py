# SPDX-License-Identifier: Apache-2.0
"""The gRPC messages of the Open Inference Protocol that a client needs, without the protos of a server's package.

Source: KServe's `open_inference_grpc.proto`, package `inference`, service `GRPCInferenceService`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from inception_tf.host.proto_classes import Field, proto_class

__all__ = ["MESSAGES", "SERVICE", "message"]

SERVICE = "inference.GRPCInferenceService"

MESSAGES: dict[str, tuple[Field, ...]] = {
    "ModelReadyRequest": (Field("name", 1, "string"), Field("version", 2, "string")),
    "ModelReadyResponse": (Field("ready", 1, "bool"),),
    "ModelMetadataRequest": (Field("name", 1, "string"), Field("version", 2, "string")),
    "ModelMetadataResponse": (
        Field("name", 1, "string"),
        Field("versions", 2, "string", repeated=True),
        Field("platform", 3, "string"),
        Field("inputs", 4, "TensorMetadata", repeated=True),
        Field("outputs", 5, "TensorMetadata", repeated=True),
    ),
    "TensorMetadata": (
        Field("name", 1, "string"),
        Field("datatype", 2, "string"),
        Field("shape", 3, "int64", repeated=True),
    ),
    "ModelInferRequest": (
        Field("model_name", 1, "string"),
        Field("model_version", 2, "string"),
        Field("inputs", 5, "InferInputTensor", repeated=True),
        Field("raw_input_contents", 7, "bytes", repeated=True),
    ),
    "InferInputTensor": (
        Field("name", 1, "string"),
        Field("datatype", 2, "string"),
        Field("shape", 3, "int64", repeated=True),
    ),
    "ModelInferResponse": (
        Field("model_name", 1, "string"),
        Field("model_version", 2, "string"),
        Field("outputs", 5, "InferOutputTensor", repeated=True),
        Field("raw_output_contents", 6, "bytes", repeated=True),
    ),
    "InferOutputTensor": (
        Field("name", 1, "string"),
        Field("datatype", 2, "string"),
        Field("shape", 3, "int64", repeated=True),
        Field("contents", 5, "InferTensorContents"),
    ),
    "InferTensorContents": (
        Field("bool_contents", 1, "bool", repeated=True),
        Field("int_contents", 2, "int32", repeated=True),
        Field("int64_contents", 3, "int64", repeated=True),
        Field("uint_contents", 4, "uint32", repeated=True),
        Field("uint64_contents", 5, "uint64", repeated=True),
        Field("fp32_contents", 6, "float", repeated=True),
        Field("fp64_contents", 7, "double", repeated=True),
        Field("bytes_contents", 8, "bytes", repeated=True),
    ),
}


@cache
def message(name: str) -> Any:
    """Returns the class of a message.

    Args:
        name: One of `MESSAGES`.

    Returns:
        A subclass of `google.protobuf.message.Message`.
    """
    return proto_class("inception_tf.inference", MESSAGES, name)
