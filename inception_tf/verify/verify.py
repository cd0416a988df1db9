# SPDX-License-Identifier: Apache-2.0
"""Does a SavedModel keep its contract?  Its parts are looked at, then TensorFlow Serving's loader runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras

from inception_tf.classifiers import open_classifier
from inception_tf.data.labels import read_labels
from inception_tf.errors import UserError
from inception_tf.export import metadata, warmup
from inception_tf.savedmodel.c_api import LoaderError, NoLoaderError
from inception_tf.savedmodel.signature_def import read_meta_graph
from inception_tf.savedmodel.versions import newest_version
from inception_tf.verify import runtime_checks, static_checks
from inception_tf.verify.runtime_checks import CheckFailedError, CheckSkippedError, SampleRun

__all__ = ["NOT_COVERED", "Check", "verify"]

NOT_COVERED = "the server's REST codec, its version manager, its batching, and the TensorFlow that it was built with"


@dataclass(frozen=True)
class Check:
    """One finding; `passed` is None where the check could not be made, and `detail` says why."""

    name: str
    passed: bool | None
    detail: str


def verify(path: str | Path, model: keras.Model | str | None = None) -> tuple[Check, ...]:
    """Checks of the SavedModel `path`: saved_models/NAME (its newest version) or NAME/VERSION.

    model: the network that was exported, or the run folder or weights file that it came from; its
    probabilities are compared.  None: the one that the export itself names, while it is there unchanged.
    Raises `UserError` where there is no SavedModel to check.  Not covered: `NOT_COVERED`.
    """
    folder = newest_version(path)
    if isinstance(model, str):
        model = _open(model, metadata.read_metadata(folder))
    graph = read_meta_graph(folder)
    signatures = _check("signatures", static_checks.check_signatures, graph)
    return (
        Check("SavedModel", True, f"TensorFlow {graph.meta_info_def.tensorflow_version}"),
        signatures,
        _check("labels", static_checks.check_labels_file, folder, graph),
        _check("sizes", static_checks.check_variables, folder),
        _check("inference only", static_checks.check_inference_only, graph),
        _check("no forced XLA", static_checks.check_no_forced_xla, graph),
        *_running(folder, model, bool(signatures.passed)),
    )


def _check(name: str, finding: Callable[..., str], *arguments) -> Check:
    try:
        return Check(name, True, finding(*arguments))
    except (CheckSkippedError, NoLoaderError) as reason:
        return Check(name, None, _first_line(reason))
    except (CheckFailedError, LoaderError, UserError) as fault:
        return Check(name, False, _first_line(fault))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _running(folder: Path, model: keras.Model | None, known: bool) -> Iterator[Check]:
    """The checks of what the model answers; one child process answers for all of them.

    known: the signatures are the contract's, so that answers can be read.
    """
    log = _check("warm-up", _read_log, folder)
    tried: list[SampleRun] = []

    def run() -> str:
        tried.append(
            runtime_checks.run_sample_requests(
                folder, warmup.read_warmup(folder) if log.passed else ()
            )
        )
        return runtime_checks.every_signature_runs(tried[0])

    def of_trial(finding, *arguments) -> str:
        if not tried:
            raise CheckSkippedError("the C++ loader did not load it")
        if not known:
            raise CheckSkippedError("the signatures are others")
        return finding(tried[0], *arguments)

    yield _check("C++ loader", run)
    yield _check("probabilities", of_trial, runtime_checks.are_probabilities)
    yield _check("top classes", of_trial, _names_follow_scores, folder)
    # Loaded once for both, and not at all where there are no answers to compare with.
    load = cache(lambda: runtime_checks.load_in_python(folder))
    yield _check("Python loader", of_trial, _as_in_python, load)
    yield _check("Keras model", of_trial, _as_in_keras, folder, load, model)
    yield _check("one bad image", of_trial, runtime_checks.bad_image_fails_alone)
    yield _check("warm-up", of_trial, runtime_checks.warm_up_replays) if log.passed else log


def _read_log(folder: Path) -> str:
    try:
        return f"{len(warmup.read_warmup(folder))} records"
    except UserError as error:
        raise CheckSkippedError(str(error)) from error
    except ValueError as error:
        raise CheckFailedError(str(error)) from error


def _names_follow_scores(tried: SampleRun, folder: Path) -> str:
    return runtime_checks.names_follow_scores(
        tried, read_labels(folder / static_checks.LABELS_FILE)
    )


def _as_in_python(tried: SampleRun, load: Callable[[], Any]) -> str:
    return runtime_checks.as_in_python(tried, load())


def _as_in_keras(
    tried: SampleRun, folder: Path, load: Callable[[], Any], model: keras.Model | None
) -> str:
    kept = metadata.read_metadata(folder)
    model = model or _open(_origin(kept), kept)
    return runtime_checks.as_in_keras(tried, load(), model, kept.precision if kept else "float32")


def _open(path: str, kept: metadata.ExportMetadata | None) -> keras.Model:
    """The network of a run folder, or of a weights file, which belongs to the network that was exported."""
    is_run = Path(path).is_dir()
    return open_classifier(path, None if is_run or kept is None else kept.network).model


def _origin(kept: metadata.ExportMetadata | None) -> str:
    if kept is None or kept.origin is None:
        raise CheckSkippedError("the export does not say where it came from; name it with --run")
    if not kept.origin.is_unchanged():
        raise CheckSkippedError(
            f"{kept.origin.weights} is not here or has changed since; name the run with --run"
        )
    return kept.origin.path
