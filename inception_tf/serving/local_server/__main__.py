# SPDX-License-Identifier: Apache-2.0
"""The server's process: python -m inception_tf.serving.local_server saved_models/digits digits."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from inception_tf.errors import UserError, explain_error, printable
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.host.process_state import collect_garbage_rarely
from inception_tf.serving.local_server import Batching
from inception_tf.serving.loopback import HOST, listen

PROGRAM = "local_server"
THREADS = 64  # requests that are worked on at a time, of each kind
PARENT_EVERY = 1.0  # seconds
EXAMPLE = '{"max_batch_size": 32}'


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m inception_tf.serving.local_server --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        arguments: The words of the command line; None for those of this process.

    Returns:
        The exit code: 0, 1 for a failure of ours, 2 for a user's mistake; errors are one sentence on stderr.
    """
    parser = _Parser(prog="python -m inception_tf.serving.local_server", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("name")
    parser.add_argument("--rest-port", type=int, default=0, help="port; 0: any that is free")
    parser.add_argument("--grpc-port", type=int, default=0, help="port; 0: any that is free")
    parser.add_argument("--batching", metavar="JSON", help="Batching's fields, such as " + EXAMPLE)
    parser.add_argument(
        "--ready", type=Path, help="file to write; the process then ends with its parent"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if arguments is None:  # the process is this program's
        collect_garbage_rarely()
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    try:
        _serve(parser.parse_args(arguments))
    except KeyboardInterrupt:
        pass  # uvicorn has stopped in order and has printed so
    except Exception as error:
        if debug:
            traceback.print_exc()
        code, sentence = explain_error(error, PROGRAM)
        print(f"{PROGRAM}: {printable(sentence)}", file=sys.stderr)
        return code
    return 0


def _parse_batching(text: str) -> Batching:
    names = [field.name for field in fields(Batching)]
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(
        name in names and type(value) is int and value > 0 for name, value in values.items()
    ):
        raise UserError(
            f"--batching must be JSON with integers above 0, such as {EXAMPLE}, got {text!r};"
            f" known: {', '.join(names)}"
        )
    return Batching(**values)


def _serve(options: argparse.Namespace) -> None:
    batching = None if options.batching is None else _parse_batching(options.batching)
    # After the arguments are checked: these import TensorFlow.
    import tensorflow as tf

    from inception_tf.serving.local_server.model import LocalModel

    # An image that takes seconds holds one of these threads, by default one for each core, and with all of them
    # every other client.
    with suppress(RuntimeError):  # TensorFlow runs already, in a program that calls `main`
        tf.config.threading.set_inter_op_parallelism_threads(THREADS)

    # Nothing is lost between the writing of `ready` and the first accept: connections wait here.
    with listen(options.rest_port, "--rest-port") as listening:
        model = LocalModel(options.folder, options.name, batching)
        words, sys.argv[1:] = sys.argv[1:], []  # KServe reads the command line when it is imported
        try:
            from inception_tf.serving.local_server import rest, rpc
        finally:
            sys.argv[1:] = words

        logging.getLogger("kserve").setLevel(logging.CRITICAL)  # a traceback for each error reply
        # KServe's own choice, of a class that FastAPI would have it leave.
        warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")
        server, port = rpc.start_grpc(model, f"{HOST}:{options.grpc_port}", THREADS)
        path = f"/v1/models/{options.name}"
        _announce(
            options.ready,
            rest=f"http://{HOST}:{listening.getsockname()[1]}{path}",
            grpc=f"grpc://{HOST}:{port}{path}",
        )
        try:
            rest.serve_rest(model, listening, THREADS)
        finally:
            server.stop(None).wait()


def _announce(ready: Path | None, *, rest: str, grpc: str) -> None:
    """Writes the addresses to the parent's file, or prints them."""
    if ready is None:
        print(f"{rest}\n{grpc}", flush=True)
        return
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    atomic_write_text(ready, json.dumps({"rest": rest, "grpc": grpc}))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
