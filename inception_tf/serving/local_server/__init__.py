# SPDX-License-Identifier: Apache-2.0
"""A test double: one SavedModel served on this machine alone, in another process, for tests and load runs.

It is not TensorFlow Serving, and replaces it where that server's binary is not available.  REST is KServe's
(`POST /v1/models/NAME:predict`, and in its form `GET /v1/models/NAME` and errors); gRPC is TensorFlow Serving's
PredictionService and ModelService, implemented here.  Differences:

- One model, one version, read once; no version manager, no labels, no monitoring, no TLS.
- REST has no `/versions/V` path, no `:classify`, no `/metadata` and no Open Inference Protocol (`/v2`): such paths are
  404 with a message that says so.  NaN in a reply is `null`, and unknown models are 404 with KServe's message.  gRPC
  has these calls, without labels and without Regress and MultiInference.
- The server has no time limit for requests.  A request whose client has closed the connection, or whose deadline has
  passed, is dropped where it waits, and ended between two of its images where it runs; an image that is being decoded
  and a network that has started run to their ends.  With batching only requests that wait are dropped: TensorFlow
  cancels a whole batch, with other clients' images, or none of it.
- SavedModels are loaded by TensorFlow's Python, not by its C++ loader (`inception-tf verify` does that).

Batching is TensorFlow Serving's scheduler, through TensorFlow's batch function: requests of one signature are joined
along dimension 0 until a batch is full or its time is over, and share one status; a request larger than a batch is
rejected (400, INVALID_ARGUMENT), and so is one that finds the queue full (503, UNAVAILABLE).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from inception_tf.savedmodel.versions import newest_version

__all__ = ["Batching", "ServerAddresses", "run_local_server"]

START_TIMEOUT_S = 120.0  # Inception-v3 is loaded and warm in 15, on two cores
STOP_TIMEOUT_S = 20.0
POLL_INTERVAL_S = 0.05


@dataclass(frozen=True)
class Batching:
    """TensorFlow Serving's batching parameters, with other defaults."""

    max_batch_size: int = 32  # rows
    batch_timeout_micros: int = 5_000
    max_enqueued_batches: int = 100
    num_batch_threads: int = 2


@dataclass(frozen=True)
class ServerAddresses:
    """Addresses for `inception_tf.serving.Client`."""

    rest: str
    grpc: str


@contextlib.contextmanager
def run_local_server(
    folder: str | Path, name: str = "model", batching: Batching | None = None
) -> Iterator[ServerAddresses]:
    """Serves a SavedModel at free ports of 127.0.0.1 while the block runs.

    Args:
        folder: A version folder, or the folder above it, of which the newest version is taken.
        name: The name of the served model.
        batching: None for no batching over requests.

    Yields:
        The server's addresses.

    Raises:
        UserError: There is no SavedModel.
        RuntimeError: The server does not start; the message has its last line.

    Example:
        with run_local_server("saved_models/digits") as server, Client(server.rest) as client:
            client.predict(["digit.png"])
    """
    version = newest_version(folder).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        ready, log = Path(scratch, "ready.json"), Path(scratch, "log.txt")
        command = [sys.executable, "-m", __name__, str(version), name, "--ready", str(ready)]
        if batching:
            command += ["--batching", json.dumps(asdict(batching))]
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield _wait(child, ready, log)
        finally:
            child.terminate()
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[3])
    paths = filter(None, (root, os.environ.get("PYTHONPATH")))
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _wait(child: subprocess.Popen, ready: Path, log: Path) -> ServerAddresses:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and child.poll() is None:
        if ready.exists():
            return ServerAddresses(**json.loads(ready.read_text()))
        time.sleep(POLL_INTERVAL_S)
    state = "did not start in time" if child.poll() is None else f"ended with {child.returncode}"
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise RuntimeError(f"the server's process {state}: {last}")
