# SPDX-License-Identifier: Apache-2.0
"""A server of the Open Inference Protocol over gRPC with the protos of tritonclient, in a process of its own.

Those protos and KServe's have the same names, and one process can hold one of them.  Prints its port.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

COLUMNS = {
    "status": "BYTES",
    "top_classes": "BYTES",
    "top_scores": "FP32",
    "probabilities": "FP32",
}
SIZE = 8
LARGE = 50_000_000


def packed(texts: list[bytes]) -> bytes:
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def unpacked(data: bytes) -> list[bytes]:
    texts = []
    while data:
        size = int.from_bytes(data[:4], "little")
        texts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return texts


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self):
        self.calls = Counter()

    def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=request.version != "2")

    def ModelMetadata(self, request, context):
        name = request.name
        if name == "unknown":
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'unknown'")
        reply = service_pb2.ModelMetadataResponse(name=name, versions=["1", "2"])
        if name == "silent":
            return reply
        if name == "pixels":
            reply.inputs.add(name="images", datatype="FP32", shape=[-1, SIZE, SIZE, 3])
            reply.outputs.add(name="probabilities", datatype="FP32", shape=[-1, 3])
            return reply
        reply.inputs.add(name="image_bytes", datatype="BYTES", shape=[-1])
        for column, kind in COLUMNS.items():
            reply.outputs.add(name=column, datatype=kind, shape=[-1, 2])
        return reply

    def ModelInfer(self, request, context):
        name = request.model_name
        self.calls[name] += 1
        if name == "slow":
            time.sleep(2)
        if name == "busy" and self.calls[name] < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        (tensor,) = request.inputs
        (raw,) = request.raw_input_contents
        reply = service_pb2.ModelInferResponse(model_name=name, model_version="1")
        if name == "pixels":
            pixels = np.frombuffer(raw, "<f4").reshape(tensor.shape)
            scores = pixels.mean(axis=(1, 2)) + 1
            reply.outputs.add(name="probabilities", datatype="FP32", shape=scores.shape)
            reply.raw_output_contents.append(scores.astype("<f4").tobytes())
            return reply
        data = unpacked(raw)
        n = len(data)
        labels = [label for text in data for label in (text, request.model_version.encode())]
        scores = [0.123456789, 0.1] * n
        values = dict(zip(COLUMNS, ([b"ok"] * n, labels, scores, scores), strict=True))
        for column, kind in COLUMNS.items():
            shape = [n] if column == "status" else [n, 2]
            if name == "lying":
                shape = [-1, 7]
            output = reply.outputs.add(name=column, datatype=kind, shape=shape)
            if name == "typed":
                field = "bytes_contents" if kind == "BYTES" else "fp32_contents"
                getattr(output.contents, field).extend(values[column])
            elif name == "cut":
                reply.raw_output_contents.append(b"\xff\xff\xff\xffx")
            elif kind == "BYTES":
                reply.raw_output_contents.append(packed(values[column]))
            else:
                reply.raw_output_contents.append(np.array(values[column], "<f4").tobytes())
        return reply


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()  # until the test closes it
    server.stop(None)


if __name__ == "__main__":
    main()
