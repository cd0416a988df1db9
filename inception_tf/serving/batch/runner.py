# SPDX-License-Identifier: Apache-2.0
"""The Apache Beam runner: the local one, or any that Beam's options name."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners import PipelineRunner, create_runner

from inception_tf.errors import UserError, did_you_mean
from inception_tf.serving.batch.beam_internals import BEAM
from inception_tf.serving.batch.workers import WorkerProcesses

__all__ = ["parse_options", "run_pipeline"]

RESUME = "finished shards are kept; call again to resume"
_ONE_PIPELINE = threading.Lock()
LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner")


@contextlib.contextmanager
def run_pipeline(options: PipelineOptions) -> Iterator[beam.Pipeline]:
    """Makes a pipeline to add steps to, and runs it at the end of the block.

    Args:
        options: Beam's options.

    Yields:
        The pipeline.

    Raises:
        UserError: A step could not read or write.
        RuntimeError: A step failed otherwise.
    """
    # Beam's own DirectRunner would download a program, Prism, and run that.
    runner = _local_runner(options) if _is_local(options) else None
    try:
        with _on_loopback(), beam.Pipeline(runner=runner, options=options) as steps:
            yield steps
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped; {RESUME}") from error
    except grpc.RpcError as error:
        reason = error.details() if isinstance(error, grpc.Call) else error
        raise UserError(f"the connection to Beam's runner ended: {reason}; {RESUME}") from error
    except RuntimeError as error:
        raise _failure(error) from error


def _local_runner(options: PipelineOptions) -> PipelineRunner:
    runner = BEAM.get("FnApiRunner")
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return runner()
    # In this mode the runner would start processes in its own way, not in the given one.
    direct.direct_running_mode = "in_memory"
    direct.direct_num_workers = direct.direct_num_workers or os.cpu_count()
    return runner(default_environment=WorkerProcesses(direct.direct_num_workers))


def _failure(error: RuntimeError) -> BaseException:
    """Extracts the error of a step from Beam's text, which has tracebacks first and the reason at the end."""
    reason = str(error).strip().rpartition("\n")[2].removeprefix("RuntimeError: ")
    reason = reason.partition(" [while running ")[0]
    kind, _, what = reason.partition(": ")
    if issubclass(getattr(builtins, kind, Exception), OSError):
        return UserError(f"a worker stopped: {what}; {RESUME}")
    if reason == "KeyboardInterrupt":
        return KeyboardInterrupt(f"stopped; {RESUME}")
    return RuntimeError(reason)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Makes Beam's servers for its local workers reachable from this machine alone.

    They exchange pickles with any caller, listen on all addresses, and have no option for it.  So the
    name `grpc` in Beam's module is bound to another object until the pipeline has ended; `grpc` itself is
    not changed.  Pipelines of several threads run one after the other.
    """
    BEAM.require("grpc")
    handlers: Any = sys.modules[BEAM.names["grpc"].owner]
    with _ONE_PIPELINE:
        theirs, handlers.grpc = handlers.grpc, _LoopbackGrpc()
        try:
            yield
        finally:
            handlers.grpc = theirs


class _LoopbackGrpc:
    """The module `grpc`, with servers that listen at 127.0.0.1."""

    def __getattr__(self, name: str) -> Any:
        return getattr(grpc, name)

    def server(self, *arguments: Any, **settings: Any) -> grpc.Server:
        made = grpc.server(*arguments, **settings)
        listen = made.add_insecure_port

        def listen_on_loopback(address: str) -> int:
            return listen(f"127.0.0.1:{address.rpartition(':')[2]}")

        made.add_insecure_port = listen_on_loopback
        return made


def parse_options(words: Sequence[str], workers: int) -> PipelineOptions:
    """Parses Beam's options.

    Args:
        words: The options as on a command line.
        workers: Processes on this machine.

    Returns:
        Beam's options, complete.

    Raises:
        UserError: Beam has no such option or runner, or `workers` is given for a remote runner.
    """
    if workers > 1:
        words = [
            f"--direct_num_workers={workers}",
            "--direct_running_mode=multi_processing",
            *words,
        ]
    options = PipelineOptions(list(words))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            given = options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:
        reason = printed.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"Beam cannot parse its options: {reason}") from error
    if not _is_local(options):
        _check_other(options.view_as(StandardOptions).runner, workers)
        return options
    known = set(PipelineOptions([]).get_all_options())
    for name in sorted(set(given) - known):
        raise UserError(f"Beam has no option '--{name}'{did_you_mean(name, known)}")
    return options


def _check_other(runner: str, workers: int) -> None:
    if workers > 1:
        raise UserError(
            f"the number of workers is for the runner on this machine; set that of {runner} by its"
            " own options"
        )
    try:
        create_runner(runner)
    except (AttributeError, ImportError, ValueError) as error:
        raise UserError(f"Beam cannot use the runner '{runner}': {error}") from error


def _is_local(options: PipelineOptions) -> bool:
    return options.view_as(StandardOptions).runner in LOCAL_RUNNERS
