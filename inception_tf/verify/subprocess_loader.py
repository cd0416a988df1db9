# SPDX-License-Identifier: Apache-2.0
"""Runs a SavedModel as TensorFlow Serving does: C++ loader and C++ session, in a process without Python's TensorFlow.

`run_saved_model` is the parent's side; `python -m inception_tf.verify.subprocess_loader REQUEST.npz RESPONSE.npz` is
the child's.  Both files hold a JSON text `plan`, whose tensors are numbers of arrays beside it.  Not covered: the
server's REST codec, its version manager and its batching.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inception_tf.host.hardware import peak_memory
from inception_tf.savedmodel.c_api import LoaderError, Session, find_libraries
from inception_tf.savedmodel.call import Call
from inception_tf.savedmodel.signature_def import Signature, read_signatures

__all__ = ["CallResult", "Call", "LoaderResult", "run_saved_model"]

TIMEOUT_S = 300.0  # for one child process; Inception-v3 loads and runs in 3, on two cores


@dataclass(frozen=True)
class CallResult:
    """The outputs of one request, or the message of its error."""

    outputs: dict[str, np.ndarray]
    error: str = ""
    peak: int = 0  # bytes that the process has held by its end, as in `LoaderResult`


class LoaderResult(NamedTuple):
    """The results of one process and its peak memory."""

    results: tuple[CallResult, ...]
    peak: int  # bytes, with TensorFlow's libraries; 0 where the system does not tell


def run_saved_model(
    folder: str | Path, calls: Sequence[Call], timeout: float = TIMEOUT_S
) -> LoaderResult:
    """Runs requests one after another on a SavedModel, in one process.

    Args:
        folder: The SavedModel, a version folder.
        calls: The requests.
        timeout: Seconds.

    Returns:
        A result for each request, and the process's peak memory.

    Raises:
        NoLoaderError: TensorFlow has no C++ library to call.
        LoaderError: The model does not load; the message is TensorFlow's.
    """
    find_libraries()
    signatures = read_signatures(folder)
    with tempfile.TemporaryDirectory() as scratch:
        request, response = Path(scratch, "request.npz"), Path(scratch, "response.npz")
        pack = _Pack()
        tasks = [_task(call, signatures, pack) for call in calls]
        pack.save(request, {"saved_model": os.path.abspath(folder), "tasks": tasks})
        _start_child(request, response, timeout)
        plan, tensors = _unpack(response)
    if "error" in plan:
        raise LoaderError(plan["error"])
    results = tuple(
        CallResult(
            {name: tensors[i] for name, i in result["outputs"].items()},
            result["error"],
            result["peak"],
        )
        for result in plan["results"]
    )
    return LoaderResult(results, plan["peak"])


def _task(call: Call, signatures: dict[str, Signature], pack: _Pack) -> dict:
    """A request by the names of its tensors in the graph, as the server looks them up."""
    if call.signature not in signatures:
        known = ", ".join(sorted(signatures))
        return {"error": f"no signature '{call.signature}'; there are: {known}"}
    signature = signatures[call.signature]
    if set(call.inputs) != set(signature.inputs):
        return {"error": f"inputs are {sorted(signature.inputs)}, not {sorted(call.inputs)}"}
    return {
        "feeds": {signature.inputs[n]: pack.add(value) for n, value in call.inputs.items()},
        "fetches": signature.outputs,
    }


def _start_child(request: Path, response: Path, timeout: float) -> None:
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        "CUDA_VISIBLE_DEVICES": "-1",  # the parent holds the accelerator's memory
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    command = [sys.executable, "-m", __spec__.name, str(request), str(response)]
    try:
        child = subprocess.run(
            command, env=environment, timeout=timeout, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LoaderError(f"the loader's process did not end within {timeout:g} seconds") from error
    if child.returncode:
        last = child.stderr.strip().rpartition("\n")[2]
        raise LoaderError(f"the loader's process ended with code {child.returncode}: {last}")


class _Pack:
    """Arrays for one .npz file; strings are stored as their joined bytes and their lengths."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._count = 0

    def add(self, array: np.ndarray) -> int:
        number, self._count = self._count, self._count + 1
        if array.dtype == object:
            sizes = np.array([len(text) for text in array.flat], np.int64).reshape(array.shape)
            self._arrays[f"{number}_sizes"] = sizes
            array = np.frombuffer(b"".join(array.flat), np.uint8)
        self._arrays[str(number)] = array
        return number

    def save(self, path: Path, plan: dict) -> None:
        np.savez(path, plan=np.array(json.dumps(plan)), **self._arrays)


def _unpack(path: Path) -> tuple[dict, dict[int, np.ndarray]]:
    with np.load(path) as file:
        held = dict(file)
    plan = json.loads(str(held.pop("plan")))
    tensors = {}
    for name in [name for name in held if name.isdecimal()]:
        array, sizes = held[name], held.get(f"{name}_sizes")
        tensors[int(name)] = array if sizes is None else _strings(array.tobytes(), sizes)
    return plan, tensors


def _strings(joined: bytes, sizes: np.ndarray) -> np.ndarray:
    ends = np.cumsum(sizes.ravel())
    texts = np.empty(sizes.size, object)
    texts[:] = [joined[end - size : end] for end, size in zip(ends, sizes.flat, strict=True)]
    return texts.reshape(sizes.shape)


def _main(request: str, response: str) -> None:
    plan, tensors = _unpack(Path(request))
    pack = _Pack()
    try:
        session = Session(plan["saved_model"])
        results = [_run_task(session, task, tensors, pack) for task in plan["tasks"]]
        pack.save(Path(response), {"results": results, "peak": peak_memory()})
    except LoaderError as error:
        pack.save(Path(response), {"error": str(error)})


def _run_task(session: Session, task: dict, tensors: dict[int, np.ndarray], pack: _Pack) -> dict:
    if "error" in task:
        return {"outputs": {}, "error": task["error"], "peak": peak_memory()}
    feeds = {name: tensors[number] for name, number in task["feeds"].items()}
    names = list(task["fetches"])
    try:
        arrays = session.run(feeds, [task["fetches"][name] for name in names])
    except LoaderError as error:
        return {"outputs": {}, "error": str(error), "peak": peak_memory()}
    outputs = dict(zip(names, map(pack.add, arrays), strict=True))
    return {"outputs": outputs, "error": "", "peak": peak_memory()}


if __name__ == "__main__":
    _main(*sys.argv[1:])
