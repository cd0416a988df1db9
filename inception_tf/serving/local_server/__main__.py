# SPDX-License-Identifier: Apache-2.0
"""The server's process: python -m inception_tf.serving.local_server saved_models/digits digits."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

from inception_tf.errors import UserError
from inception_tf.serving.local_server import Batching
from inception_tf.serving.local_server.model import LocalModel

HOST = "127.0.0.1"
THREADS = 64  # requests that are worked on at a time, of each kind
PARENT_EVERY = 1.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m inception_tf.serving.local_server", description=__doc__
    )
    parser.add_argument("folder")
    parser.add_argument("name")
    parser.add_argument("--rest-port", type=int, default=0, help="port; 0: any that is free")
    parser.add_argument("--grpc-port", type=int, default=0, help="port; 0: any that is free")
    parser.add_argument("--batching", type=json.loads, help="JSON of Batching's fields")
    parser.add_argument(
        "--ready", type=Path, help="file to write; the process then ends with its parent"
    )
    asked = parser.parse_args()
    try:
        _serve(asked)
    except (UserError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        pass  # uvicorn has ended in order, and tells so


def _serve(asked: argparse.Namespace) -> None:
    # Nothing is lost between the writing of `ready` and the first accept: connections wait here.
    listening = socket.create_server((HOST, asked.rest_port))
    batching = None if asked.batching is None else Batching(**asked.batching)
    model = LocalModel(asked.folder, asked.name, batching)

    del sys.argv[1:]  # KServe reads the command line as well, when it is imported
    from inception_tf.serving.local_server import rest, rpc

    server, port = rpc.start(model, f"{HOST}:{asked.grpc_port}", THREADS)
    path = f"/v1/models/{asked.name}"
    served = {
        "rest": f"http://{HOST}:{listening.getsockname()[1]}{path}",
        "grpc": f"grpc://{HOST}:{port}{path}",
    }
    if asked.ready:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        written = asked.ready.with_suffix(".tmp")
        written.write_text(json.dumps(served))
        written.rename(asked.ready)
    else:
        print(f"{served['rest']}\n{served['grpc']}", flush=True)
    # KServe's own choice, of a class that FastAPI would have it leave.
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")
    try:
        rest.serve(model, listening, THREADS)
    finally:
        server.stop(None).wait()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
