# SPDX-License-Identifier: Apache-2.0
"""MLServer, a real server of the Open Inference Protocol, from an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inception_tf.serving import Client

HERE = Path(__file__).parent / "v2"
MLSERVER = "INCEPTION_TF_PYTHON_WITH_MLSERVER"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def of_pixels(folder: Path, classes: int) -> dict[str, Any]:
    """MLServer's settings of a model.onnx in the version folder of an export."""
    size = json.loads((folder / "preprocessing.json").read_text())["size"]
    return {
        "implementation": "runtimes.Onnx",
        "parameters": {"uri": str(folder / "model.onnx"), "version": "v1"},
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, size, size, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]}],
    }


def needed_python() -> str:
    """The Python that has it; the test is skipped where none is named."""
    python = os.environ.get(MLSERVER)
    if not python:
        pytest.skip(f"{MLSERVER} names no Python that has mlserver and onnxruntime")
    return python


@contextlib.contextmanager
def run_mlserver(models: Path, described: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The REST and the gRPC address of a server of some models, each by its settings."""
    python = needed_python()
    http, grpc, metrics = free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
    }
    (models / "settings.json").write_text(json.dumps(settings))
    for name, more in described.items():
        (models / name).mkdir()
        (models / name / "model-settings.json").write_text(json.dumps({"name": name} | more))
    with (models / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            [python, "-c", "from mlserver.cli import main; main()", "start", models],
            env=os.environ | {"PYTHONPATH": str(HERE)},
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + 120
        client = Client(f"http://127.0.0.1:{http}/v2", model=next(iter(described)), retries=0)
        while client._server._transport.is_ready(None) is False:
            assert server.poll() is None, (models / "log.txt").read_text()
            assert time.monotonic() < end
            time.sleep(0.5)
        yield f"http://127.0.0.1:{http}/v2", f"grpc://127.0.0.1:{grpc}/v2"
    finally:
        server.terminate()
        server.wait(30)
