# SPDX-License-Identifier: Apache-2.0
"""Checks that a SavedModel keeps its contract: first its files, then its outputs in TensorFlow Serving's loader."""

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
    """The result of one check."""

    name: str
    passed: bool | None  # None: not made
    detail: str  # a few words; where it failed or was not made, why


def verify(path: str | Path, model: keras.Model | str | None = None) -> tuple[Check, ...]:
    """Checks a SavedModel: its files, its outputs in C++ and in Python, and the Keras model's outputs.

    Args:
        path: saved_models/NAME, for its newest version, or saved_models/NAME/VERSION.
        model: The network that was exported, or the path of its run folder or weights file, for comparison; None for
            the one that the export names, if it still exists unchanged.

    Returns:
        All checks in order; `NOT_COVERED` says what they leave open.

    Raises:
        UserError: There is no SavedModel to check, or no network at the path `model`.

    Example:
        failed = [check.name for check in verify("saved_models/digits") if check.passed is False]
    """
    folder = newest_version(path)
    exported = metadata.read_metadata(folder)
    network = _open(model, exported) if isinstance(model, str) else model
    graph = read_meta_graph(folder)
    features = exported.features if exported else None
    signatures = _check("signatures", static_checks.check_signatures, graph, features)
    return (
        Check("SavedModel", True, f"TensorFlow {graph.meta_info_def.tensorflow_version}"),
        signatures,
        _check("labels", static_checks.check_labels_file, folder, graph),
        _check("sizes", static_checks.check_variables, folder),
        _check("inference only", static_checks.check_inference_only, graph),
        _check("no forced XLA", static_checks.check_no_forced_xla, graph),
        *_running(folder, network, bool(signatures.passed), features),
    )


def _check(name: str, finding: Callable[..., str], *arguments: Any) -> Check:
    try:
        return Check(name, True, finding(*arguments))
    except (CheckSkippedError, NoLoaderError) as reason:
        return Check(name, None, _first_line(reason))
    except (CheckFailedError, LoaderError, UserError) as fault:
        return Check(name, False, _first_line(fault))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _running(
    folder: Path, model: keras.Model | None, known: bool, features: int | None
) -> Iterator[Check]:
    """Makes the checks of the outputs; one child process runs all requests.

    known: the signatures are the contract's, so that outputs can be read.
    features: the width of the feature vector; None where it has none.
    """
    log = _check("warm-up", _read_log, folder)
    runs: list[SampleRun] = []

    def run() -> str:
        runs.append(
            runtime_checks.run_sample_requests(
                folder,
                warmup.read_warmup(folder) if log.passed else (),
                features=features is not None,
            )
        )
        return runtime_checks.every_signature_runs(runs[0])

    def of_run(finding: Callable[..., str], *arguments: Any) -> str:
        if not runs:
            raise CheckSkippedError("the C++ loader did not load it")
        if not known:
            raise CheckSkippedError("the signatures are not the contract's")
        return finding(runs[0], *arguments)

    yield _check("C++ loader", run)
    yield _check("probabilities", of_run, runtime_checks.are_probabilities)
    yield _check("top classes", of_run, _names_follow_scores, folder)
    # Loaded once for both, and not at all where there are no outputs to compare with.
    load = cache(lambda: runtime_checks.load_in_python(folder))
    yield _check("Python loader", of_run, _as_in_python, load)
    yield _check("Keras model", of_run, _as_in_keras, folder, load, model)
    yield _check("one bad image", of_run, runtime_checks.bad_image_fails_alone)
    yield _check("warm-up", of_run, runtime_checks.warm_up_replays) if log.passed else log


def _read_log(folder: Path) -> str:
    try:
        return f"{len(warmup.read_warmup(folder))} records"
    except UserError as error:
        raise CheckSkippedError(str(error)) from error
    except ValueError as error:
        raise CheckFailedError(str(error)) from error


def _names_follow_scores(run: SampleRun, folder: Path) -> str:
    return runtime_checks.names_follow_scores(run, read_labels(folder / static_checks.LABELS_FILE))


def _as_in_python(run: SampleRun, load: Callable[[], Any]) -> str:
    return runtime_checks.as_in_python(run, load())


def _as_in_keras(
    run: SampleRun, folder: Path, load: Callable[[], Any], model: keras.Model | None
) -> str:
    exported = metadata.read_metadata(folder)
    model = model or _open(_origin(exported), exported)
    return runtime_checks.as_in_keras(
        run, load(), model, exported.precision if exported else "float32"
    )


def _open(path: str, exported: metadata.ExportMetadata | None) -> keras.Model:
    """The network of a run folder, or of a weights file, which belongs to the network that was exported."""
    is_run = Path(path).is_dir()
    return open_classifier(path, None if is_run or exported is None else exported.network).model


def _origin(exported: metadata.ExportMetadata | None) -> str:
    if exported is None or exported.origin is None:
        raise CheckSkippedError("the export does not say where it came from; name it with --run")
    if not exported.origin.is_unchanged():
        raise CheckSkippedError(
            f"{exported.origin.weights} does not exist or has changed since; name the run with --run"
        )
    return exported.origin.path
