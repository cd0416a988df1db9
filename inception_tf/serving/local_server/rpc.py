# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Serving's gRPC services around a `LocalModel`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from inception_tf.errors import UserError
from inception_tf.export.sample_requests import bytes_array
from inception_tf.savedmodel.signature_def import read_meta_graph
from inception_tf.serving.local_server.cancellation import Cancellation
from inception_tf.serving.local_server.model import DEFAULT_SIGNATURE, LocalModel, ServedError

__all__ = ["start_grpc"]


def start_grpc(model: LocalModel, address: str, threads: int) -> tuple[grpc.Server, int]:
    """Starts a gRPC server.

    Args:
        model: What is served.
        address: HOST:PORT, with 0 for any free port.
        threads: Requests that run at the same time.

    Returns:
        The running server and its port.

    Raises:
        UserError: The port cannot be opened.
    """
    server = grpc.server(
        ThreadPoolExecutor(threads),
        options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Predictions(model), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(model), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise UserError(
            f"gRPC cannot listen at {address}; give a free port with --grpc-port"
        ) from error
    server.start()
    return server, port


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model: LocalModel) -> None:
        self._model = model

    def Predict(self, request, context):
        with _report_errors(context):
            _check(self._model, request.model_spec)
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            outputs = self._model.run(signature, inputs, _cancellation(context))
            reply = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                if not request.output_filter or name in request.output_filter:
                    reply.outputs[name].CopyFrom(_proto(value))
            _set_spec(reply.model_spec, self._model, signature)
        return reply

    def Classify(self, request, context):
        with _report_errors(context):
            _check(self._model, request.model_spec)
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            examples = [e.SerializeToString() for e in request.input.example_list.examples]
            inputs = {"inputs": bytes_array(examples)}
            outputs = self._model.run(signature, inputs, _cancellation(context))
            reply = classification_pb2.ClassificationResponse()
            for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
                classes = reply.result.classifications.add().classes
                for label, score in zip(labels, scores, strict=True):
                    classes.add(label=label.decode(), score=score)
            _set_spec(reply.model_spec, self._model, signature)
        return reply

    def GetModelMetadata(self, request, context):
        with _report_errors(context):
            _check(self._model, request.model_spec)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in read_meta_graph(self._model.folder).signature_def.items():
                signatures.signature_def[name].CopyFrom(definition)
            reply = get_model_metadata_pb2.GetModelMetadataResponse()
            reply.metadata["signature_def"].Pack(signatures)
            _set_spec(reply.model_spec, self._model, "")
        return reply


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model: LocalModel) -> None:
        self._model = model

    def GetModelStatus(self, request, context):
        with _report_errors(context):
            _check(self._model, request.model_spec)
            available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
            reply = get_model_status_pb2.GetModelStatusResponse()
            reply.model_version_status.add(version=self._model.version, state=available)
        return reply


def _cancellation(context: grpc.ServicerContext) -> Cancellation:
    """Cancelled when the call ends: by its client, its deadline, a lost connection, or its reply."""
    cancellation = Cancellation()
    if not context.add_callback(cancellation.cancel):  # it has ended
        cancellation.cancel()
    return cancellation


def _proto(array: np.ndarray) -> tf.compat.v1.TensorProto:
    """A tensor whose numbers are a list, as the server sends them and clients read them, not raw bytes."""
    proto = tf.make_tensor_proto(array)
    if array.dtype == np.float32 and proto.tensor_content:
        proto.ClearField("tensor_content")
        proto.float_val.extend(array.ravel())
    return proto


def _check(model: LocalModel, spec: model_pb2.ModelSpec) -> None:
    """Checks that the request is for this model."""
    if spec.version_label:
        raise ServedError(
            "INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}"
        )
    version = spec.version.value if spec.HasField("version") else None
    if spec.name != model.name or version not in (None, model.version):
        what = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise ServedError("NOT_FOUND", f"Servable not found for request: {what}")


def _set_spec(spec: model_pb2.ModelSpec, model: LocalModel, signature: str) -> None:
    spec.name, spec.signature_name, spec.version.value = model.name, signature, model.version


@contextlib.contextmanager
def _report_errors(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except ServedError as error:
        context.abort(getattr(grpc.StatusCode, error.code), str(error))
