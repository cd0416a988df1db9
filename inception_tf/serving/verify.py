# SPDX-License-Identifier: Apache-2.0
"""Does a SavedModel keep its contract?  Its parts are looked at, then TensorFlow Serving's loader runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from inception_tf.data.labels import read_labels
from inception_tf.errors import UserError
from inception_tf.serving import loader, trial, warmup
from inception_tf.serving.c_api import LoaderError, NoLoaderError
from inception_tf.serving.signatures import CONTRACT
from inception_tf.serving.trial import FaultError, NotDoneError, Trial
from inception_tf.serving.versions import newest_version

__all__ = ["Check", "verify"]

LABELS_FILE = "assets/labels.txt"


@dataclass(frozen=True)
class Check:
    """One finding; `passed` is None where the check could not be made, and `detail` says why."""

    name: str
    passed: bool | None
    detail: str


def verify(path: str | Path, model: keras.Model | None = None) -> tuple[Check, ...]:
    """Checks of the SavedModel `path`: saved_models/NAME (its newest version) or NAME/VERSION.

    model: the network that was exported; its probabilities are then compared as well.
    Raises `UserError` where there is no SavedModel to check.  Not covered: the server's REST codec,
    its version manager and its batching.
    """
    folder = newest_version(path)
    graph = loader.meta_graph(folder)
    signatures = _check("signatures", _signatures, graph)
    return (
        Check("SavedModel", True, f"TensorFlow {graph.meta_info_def.tensorflow_version}"),
        signatures,
        _check("labels", _labels, folder, graph),
        _check("no forced XLA", _no_forced_xla, graph),
        *_running(folder, model, bool(signatures.passed)),
    )


def _check(name: str, finding: Callable[..., str], *arguments) -> Check:
    try:
        return Check(name, True, finding(*arguments))
    except (NotDoneError, NoLoaderError) as reason:
        return Check(name, None, _first_line(reason))
    except (FaultError, LoaderError, UserError) as fault:
        return Check(name, False, _first_line(fault))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _running(folder: Path, model: keras.Model | None, known: bool) -> Iterator[Check]:
    """The checks of what the model answers; one child process answers for all of them.

    known: the signatures are the contract's, so that answers can be read.
    """
    log = _check("warm-up", _read_log, folder)
    tried: list[Trial] = []

    def run() -> str:
        tried.append(trial.start(folder, warmup.read(folder) if log.passed else ()))
        return trial.every_signature_runs(tried[0])

    def of_trial(finding, *arguments) -> str:
        if not tried:
            raise NotDoneError("the C++ loader did not load it")
        if not known:
            raise NotDoneError("the signatures are others")
        return finding(tried[0], *arguments)

    yield _check("C++ loader", run)
    yield _check("probabilities", of_trial, trial.are_probabilities)
    yield _check("top classes", of_trial, _names_follow_scores, folder)
    yield _check("Python loader", of_trial, trial.as_in_python, folder)
    if model is not None:
        yield _check("Keras model", of_trial, trial.as_in_keras, folder, model)
    yield _check("one bad image", of_trial, trial.bad_image_fails_alone)
    yield _check("warm-up", of_trial, trial.warm_up_replays) if log.passed else log


def _read_log(folder: Path) -> str:
    try:
        return f"{len(warmup.read(folder))} records"
    except UserError as error:
        raise NotDoneError(str(error)) from error
    except ValueError as error:
        raise FaultError(str(error)) from error


def _names_follow_scores(tried: Trial, folder: Path) -> str:
    return trial.names_follow_scores(tried, read_labels(folder / LABELS_FILE))


def _signatures(graph) -> str:
    sizes: dict[str, int] = {}
    for name, sides in CONTRACT.items():
        if name not in graph.signature_def:
            known = ", ".join(sorted(graph.signature_def))
            raise FaultError(f"no signature '{name}'; there are: {known}")
        signature = graph.signature_def[name]
        for wanted, found in zip(sides, (signature.inputs, signature.outputs), strict=True):
            _compare_tensors(name, wanted, found, sizes)
    return f"{', '.join(CONTRACT)}; K = {sizes['K']}, k = {sizes['k']}"


def _compare_tensors(signature: str, wanted: dict, found, sizes: dict[str, int]) -> None:
    """One side of a signature; `sizes` keeps what "K" and "k" were first, the same in all signatures."""
    if set(wanted) != set(found):
        raise FaultError(f"'{signature}' has {sorted(found)}, not {sorted(wanted)}")
    for name, (dtype, shape) in wanted.items():
        given = tf.TensorShape(found[name].tensor_shape)
        dims = tuple(given) if given.rank == len(shape) else ()
        for symbol, dim in zip(shape, dims, strict=False):
            if isinstance(symbol, str) and dim is not None:
                sizes.setdefault(symbol, dim)
        expected = tuple(sizes.get(side, side) for side in shape)
        found_dtype = tf.as_dtype(found[name].dtype)
        if (found_dtype, dims) != (dtype, expected):
            raise FaultError(
                f"'{signature}' {name} is {found_dtype.name} {given}, not {dtype.name} {expected}"
            )


def _labels(folder: Path, graph) -> str:
    if Path(LABELS_FILE).name not in [asset.filename for asset in graph.asset_file_def]:
        raise FaultError("the graph has no asset labels.txt")
    if not (folder / LABELS_FILE).is_file():
        raise FaultError(f"there is no {LABELS_FILE}")
    signature = graph.signature_def.get("image_tensor")
    if signature is None or "probabilities" not in signature.outputs:
        raise NotDoneError("no signature says how many classes there are")
    dims = signature.outputs["probabilities"].tensor_shape.dim
    classes = dims[-1].size if dims else "an unknown number of"
    labels = len(read_labels(folder / LABELS_FILE))
    if labels != classes:
        raise FaultError(f"{labels} labels for {classes} classes")
    return f"{labels} labels"


def _no_forced_xla(graph) -> str:
    # The server leaves XLA off unless it is asked for, and then cannot run such a function.
    for function in graph.graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            raise FaultError(
                f"function {function.signature.name} runs only with XLA; export without jit_compile"
            )
    return "no function needs XLA"
