# SPDX-License-Identifier: Apache-2.0
"""Beam's worker processes on this machine: quiet, told of when they are lost, ended when the work ends.

Beam's own way to start them waits for ever for one that is killed, as for lack of memory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

from google.protobuf import text_format

from inception_tf.errors import UserError
from inception_tf.serving.batch.beam_internals import BEAM

__all__ = ["WorkerProcesses"]

BEAM.require("start_worker", "stop_worker", "close", "control_api_service_descriptor", "abort")

URN = "inception_tf:environment:process:v1"
CONTROL = "CONTROL_API_SERVICE_DESCRIPTOR"  # where a worker reads whom it works for
PROGRAM = "inception_tf.serving.batch.worker_process"
PATIENCE = 0.2  # seconds between two answers to those who wait for a lost worker


class WorkerProcesses(BEAM.get("Environment")):
    """For Beam's local runner: `workers` processes of this Python, with a share of the cores each."""

    def __init__(self, workers: int):
        super().__init__()
        self._threads = max(1, (os.cpu_count() or 1) // workers)

    def to_runner_api_parameter(self, context):
        return URN, str(self._threads).encode()


@BEAM.get("register_environment")(URN, bytes)
class _Process(BEAM.get("GrpcWorkerHandler")):
    """Beam's side of one process."""

    def __init__(self, threads, state, provision_info, grpc_server):
        super().__init__(state, provision_info, grpc_server)
        self._threads = threads.decode()
        self._closed = threading.Event()

    def start_worker(self):
        address = text_format.MessageToString(self.control_api_service_descriptor())
        environment = {
            "TF_NUM_INTRAOP_THREADS": self._threads,
            **os.environ,
            CONTROL: address,
            "WORKER_ID": self.worker_id,
        }
        # A session of its own: Ctrl-C is for the process that waits, which then ends this one.
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM], env=environment, start_new_session=True
        )
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def _wait(self):
        code = self._process.wait()
        error = UserError(
            f"a worker process ended with code {code}, as one does that finds no memory left; call"
            " again to go on, with fewer workers or a smaller batch size"
        )
        # Whoever asks it for something later would wait as well.
        while not self._closed.wait(PATIENCE):
            with contextlib.suppress(RuntimeError):  # somebody asks at this moment: next time
                self.control_conn.abort(error)

    def stop_worker(self):
        self._watch.join()

    def close(self):
        self._closed.set()
        self._process.terminate()  # it has nothing left to do, or nobody who waits for it
        super().close()
