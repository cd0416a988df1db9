# SPDX-License-Identifier: Apache-2.0
"""The parts of Apache Beam's local runner that it does not document, and that worker processes of our own need."""

from __future__ import annotations

from inception_tf.host.private_names import PrivateName, PrivateNames

__all__ = ["BEAM"]

_FN_API = "apache_beam.runners.portability.fn_api_runner"
_HANDLERS = f"{_FN_API}.worker_handlers"
_PROCESSES = "worker processes on this machine"

BEAM = PrivateNames(
    "apache-beam>=2.70,<3",
    (
        PrivateName(f"{_FN_API}.fn_runner", "FnApiRunner", "running without a download"),
        PrivateName(_HANDLERS, "GrpcWorkerHandler", _PROCESSES),
        PrivateName(f"{_HANDLERS}.GrpcWorkerHandler", "control_api_service_descriptor", _PROCESSES),
        PrivateName(f"{_HANDLERS}.WorkerHandler", "register_environment", _PROCESSES),
        PrivateName(f"{_HANDLERS}.WorkerHandler", "start_worker", _PROCESSES),
        PrivateName(f"{_HANDLERS}.WorkerHandler", "stop_worker", _PROCESSES),
        PrivateName(f"{_HANDLERS}.WorkerHandler", "close", _PROCESSES),
        PrivateName(f"{_HANDLERS}.ControlConnection", "abort", "reporting a lost worker process"),
        PrivateName(_HANDLERS, "grpc", "servers that only this machine can reach"),
        PrivateName("apache_beam.transforms.environments", "Environment", _PROCESSES),
        PrivateName("apache_beam.runners.worker.sdk_worker_main", "main", _PROCESSES),
    ),
)
