# SPDX-License-Identifier: Apache-2.0
"""Beam's worker processes on this machine: without output, reported when they are lost, ended when the work ends.

Beam's own way to start them waits forever for one that is killed, as for lack of memory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from typing import Any

from google.protobuf import text_format

from inception_tf.errors import UserError
from inception_tf.serving.batch.beam_internals import BEAM

__all__ = ["WorkerProcesses"]

BEAM.require("start_worker", "stop_worker", "close", "control_api_service_descriptor", "abort")

URN = "inception_tf:environment:process:v1"
CONTROL = "CONTROL_API_SERVICE_DESCRIPTOR"  # where a worker reads the address of its runner
PROGRAM = "inception_tf.serving.batch.worker_process"
ABORT_INTERVAL_S = 0.2  # between two messages to callers that wait for a lost worker


Environment: Any = BEAM.get("Environment")
GrpcWorkerHandler: Any = BEAM.get("GrpcWorkerHandler")


class WorkerProcesses(Environment):
    """Beam's environment for processes of this Python on this machine, with a fraction of the cores each.

    Args:
        workers: How many processes the runner starts.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._threads = max(1, (os.cpu_count() or 1) // workers)

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """Encodes the environment for Beam.

        Args:
            context: Beam's, unused.

        Returns:
            The environment's URN and payload.
        """
        return URN, str(self._threads).encode()


@BEAM.get("register_environment")(URN, bytes)
class _Process(GrpcWorkerHandler):
    """Beam's side of one process."""

    def __init__(self, threads: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._threads = threads.decode()
        self._closed = threading.Event()

    def start_worker(self) -> None:
        address = text_format.MessageToString(self.control_api_service_descriptor())
        environment = {
            "TF_NUM_INTRAOP_THREADS": self._threads,
            **os.environ,
            CONTROL: address,
            "WORKER_ID": self.worker_id,
        }
        # A new session: Ctrl-C reaches only the parent, which then ends this one.
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM], env=environment, start_new_session=True
        )
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def _wait(self) -> None:
        code = self._process.wait()
        error = UserError(
            f"a worker process ended with code {code}, often for lack of memory; call again to"
            " resume, with fewer workers or a smaller batch size"
        )
        # Later calls to the lost worker would wait as well.
        while not self._closed.wait(ABORT_INTERVAL_S):
            with contextlib.suppress(RuntimeError):  # a call arrives at this moment: next time
                self.control_conn.abort(error)

    def stop_worker(self) -> None:
        self._watch.join()

    def close(self) -> None:
        self._closed.set()
        self._process.terminate()  # it has no work left, or no caller that waits for it
        super().close()
