# SPDX-License-Identifier: Apache-2.0
"""The warm-up log that TensorFlow Serving replays before a version takes requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from inception_tf.errors import missing_package
from inception_tf.export import sample_requests
from inception_tf.savedmodel.call import Call

__all__ = ["WARMUP_FILE", "RECORD_LIMIT", "import_prediction_log", "read_warmup", "write_warmup"]

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"  # the server looks for this name
RECORD_LIMIT = 1000  # WarmupConsts::kMaxNumRecords; the server rejects a model with more
CLASSIFY = "classify"


def write_warmup(
    folder: Path, name: str, batches: Sequence[int], *, features: bool = False
) -> None:
    """Writes a request of every signature and batch size into a SavedModel.

    Args:
        folder: The SavedModel, a version folder.
        name: The name under which the model is served.
        batches: Images per request, one entry for each batch size.
        features: The export has the signature of a feature vector.
    """
    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for batch in batches:
            for call in sample_requests.sample_calls(batch, features=features):
                file.write(_log(call, name).SerializeToString())


def read_warmup(folder: Path) -> tuple[Call, ...]:
    """Reads the warm-up log of a SavedModel.

    Args:
        folder: The SavedModel, a version folder.

    Returns:
        The requests in order.

    Raises:
        UserError: `tensorflow-serving-api` is not installed.
        ValueError: The server would reject the log; the message is one sentence.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        raise ValueError(f"there is no {WARMUP_FILE}")
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    except tf.errors.DataLossError as error:
        raise ValueError(f"not a TFRecord file: {error.message}") from error
    if not 1 <= len(records) <= RECORD_LIMIT:
        raise ValueError(f"{len(records)} records, from 1 to {RECORD_LIMIT} are replayed")
    return tuple(_call(number, record) for number, record in enumerate(records))


def import_prediction_log() -> ModuleType:
    """Imports the protobuf messages of the log.

    Returns:
        The module `prediction_log_pb2`.

    Raises:
        UserError: `tensorflow-serving-api` is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise missing_package("the warm-up log", "tensorflow-serving-api", "serve") from error
    return prediction_log_pb2


def _log(call: Call, name: str) -> Any:
    log = import_prediction_log().PredictionLog()
    if call.signature == CLASSIFY:
        request = log.classify_log.request
        for serialized in call.inputs["inputs"]:
            request.input.example_list.examples.add().ParseFromString(serialized)
    else:
        request = log.predict_log.request
        for key, value in call.inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    request.model_spec.name = name
    request.model_spec.signature_name = call.signature
    return log


def _call(number: int, record: bytes) -> Call:
    log = import_prediction_log().PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"record {number} is not a PredictionLog") from error
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
    elif kind == "classify_log":
        request = log.classify_log.request
        serialized = [e.SerializeToString() for e in request.input.example_list.examples]
        inputs = {"inputs": sample_requests.bytes_array(serialized)}
    else:
        raise ValueError(f"record {number} holds {kind}; predict_log and classify_log are known")
    return Call(request.model_spec.signature_name, inputs)
