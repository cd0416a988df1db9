# SPDX-License-Identifier: Apache-2.0
"""The Apache Beam runner that does the work: the one on this machine, or any that Beam's options name."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners import PipelineRunner, create_runner

from inception_tf.errors import UserError, did_you_mean
from inception_tf.serving.batch.beam_internals import BEAM
from inception_tf.serving.batch.workers import WorkerProcesses

__all__ = ["parse_options", "run_pipeline"]

GO_ON = "what is done stays, call again to go on"
_ONE_PIPELINE = threading.Lock()
LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner")


@contextlib.contextmanager
def run_pipeline(options: PipelineOptions) -> Iterator[beam.Pipeline]:
    """A pipeline to add steps to; at the end it is run.

    Raises `UserError` for what a step could not read or write, `RuntimeError` for another failure.
    """
    # Beam's own DirectRunner would fetch a program from the network, Prism, and run that.
    runner = _local_runner(options) if _is_local(options) else None
    try:
        with _on_loopback(), beam.Pipeline(runner=runner, options=options) as steps:
            yield steps
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped; {GO_ON}") from error
    except RuntimeError as error:
        raise _failure(error) from error


def _local_runner(options: PipelineOptions) -> PipelineRunner:
    runner = BEAM.get("FnApiRunner")
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return runner()
    # With this mode the runner would take its own way to start processes, not the one it is given.
    direct.direct_running_mode = "in_memory"
    direct.direct_num_workers = direct.direct_num_workers or os.cpu_count()
    return runner(default_environment=WorkerProcesses(direct.direct_num_workers))


def _failure(error: RuntimeError) -> BaseException:
    """What went wrong in a step, out of the text that Beam makes of it: tracebacks, the reason at the end."""
    reason = str(error).strip().rpartition("\n")[2].removeprefix("RuntimeError: ")
    reason = reason.partition(" [while running ")[0]
    kind, _, what = reason.partition(": ")
    if issubclass(getattr(builtins, kind, Exception), OSError):
        return UserError(f"a worker stopped: {what}; {GO_ON}")
    if reason == "KeyboardInterrupt":
        return KeyboardInterrupt(f"stopped; {GO_ON}")
    return RuntimeError(reason)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Makes Beam's servers for its local workers reachable from this machine alone.

    They exchange pickles with any caller, listen on all addresses, and have no option for it.  So the
    name `grpc` in Beam's module stands for another one until the pipeline has ended; `grpc` itself stays
    as it is.  Pipelines of several threads run one after the other.
    """
    BEAM.require("grpc")
    handlers = sys.modules[BEAM.names["grpc"].owner]
    with _ONE_PIPELINE:
        theirs, handlers.grpc = handlers.grpc, _LoopbackGrpc()
        try:
            yield
        finally:
            handlers.grpc = theirs


class _LoopbackGrpc:
    """The module `grpc`, but that its servers listen at 127.0.0.1."""

    def __getattr__(self, name: str):
        return getattr(grpc, name)

    def server(self, *arguments, **settings) -> grpc.Server:
        made = grpc.server(*arguments, **settings)
        listen = made.add_insecure_port

        def listen_at_home(address: str) -> int:
            return listen(f"127.0.0.1:{address.rpartition(':')[2]}")

        made.add_insecure_port = listen_at_home
        return made


def parse_options(words: Sequence[str], workers: int) -> PipelineOptions:
    """Beam's options; `UserError` for one that it does not take."""
    if workers > 1:
        words = [
            f"--direct_num_workers={workers}",
            "--direct_running_mode=multi_processing",
            *words,
        ]
    options = PipelineOptions(list(words))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given = options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"Beam does not take its options: {reason}") from error
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
        raise UserError(f"Beam cannot take the runner '{runner}': {error}") from error


def _is_local(options: PipelineOptions) -> bool:
    return options.view_as(StandardOptions).runner in LOCAL_RUNNERS
