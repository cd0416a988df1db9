# SPDX-License-Identifier: Apache-2.0
"""Checks that a SavedModel keeps its contract: first its files, then its outputs in TensorFlow Serving's loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras

from inception_tf.classifiers import Classifier, open_classifier
from inception_tf.data.labels import read_class_names, read_labels
from inception_tf.errors import UserError
from inception_tf.export import metadata, warmup
from inception_tf.savedmodel.c_api import LoaderError, NoLoaderError
from inception_tf.savedmodel.signature_def import read_meta_graph
from inception_tf.savedmodel.versions import newest_version
from inception_tf.verify import (
    probe_images,
    python_loader,
    record_checks,
    runtime_checks,
    sample_run,
    static_checks,
)
from inception_tf.verify.check import CheckFailedError, CheckSkippedError
from inception_tf.verify.probe_images import Prepared
from inception_tf.verify.sample_run import SampleRun

__all__ = ["ENDED_IN", "NOT_COVERED", "Check", "verify"]

ENDED_IN = "the check ended in"  # an error that it does not know

NOT_COVERED = "the server's REST codec, its version manager, its batching, and the TensorFlow that it was built with"


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    passed: bool | None  # None: not made
    detail: str  # a few words; where it failed or was not made, why


def verify(
    path: str | Path,
    model: keras.Model | str | None = None,
    labels: Sequence[str] | None = None,
) -> tuple[Check, ...]:
    """Checks a SavedModel: its files, its outputs in C++ and in Python, and the Keras model's outputs.

    Args:
        path: saved_models/NAME, for its newest version, or saved_models/NAME/VERSION.
        model: The network that was exported, or the path of its run folder or weights file, for comparison; None for
            the one that the export names, if it still exists unchanged.
        labels: K class names, in the order of the outputs; None for those of the run.

    Returns:
        All checks in order; `NOT_COVERED` says what they leave open.

    Raises:
        UserError: There is no SavedModel to check, or no network at the path `model`.

    Example:
        failed = [check.name for check in verify("saved_models/digits") if check.passed is False]
    """
    folder = newest_version(path)
    graph = read_meta_graph(folder)
    sum_of_metadata = _check("metadata", record_checks.check_metadata_sum, folder)
    try:
        exported = metadata.read_metadata(folder)
    except UserError:
        exported = None  # the check of the metadata says so
    network = _Network(folder, model, exported)
    if isinstance(model, str):
        network.classifier()
    features = exported.features if exported else None
    signatures = _check("signatures", static_checks.check_signatures, graph, features)
    log = _check("warm-up", _read_log, folder)
    return (
        _check("SavedModel", static_checks.check_one_graph, folder, graph),
        sum_of_metadata,
        _check("files", record_checks.check_files, folder, exported),
        _check("fingerprint", record_checks.check_fingerprint, folder, exported),
        signatures,
        _check("labels", static_checks.check_labels_file, folder, graph),
        _check("exported labels", record_checks.check_labels, folder, exported),
        _check("run's labels", _run_labels, folder, exported, network, labels),
        _check("class table", static_checks.check_class_table, graph),
        _check("settings", _settings, graph, exported, network, log),
        _check("sizes", static_checks.check_variables, folder),
        _check("inference only", static_checks.check_inference_only, graph),
        _check("no files", static_checks.check_no_files, graph),
        _check("no forced XLA", static_checks.check_no_forced_xla, graph),
        *_running(folder, exported, network, log, bool(signatures.passed)),
    )


class _Network:
    """The network to compare with, opened once and where it is needed first.

    Args:
        folder: The version folder.
        given: A Keras model, a path, or None for the one that the export names.
        exported: The metadata of the export.
    """

    def __init__(
        self,
        folder: Path,
        given: keras.Model | str | None,
        exported: metadata.ExportMetadata | None,
    ) -> None:
        self._folder, self._given, self._exported = folder, given, exported
        self._opened = cache(self._open)

    def classifier(self) -> Classifier | None:
        """The run or weights file; None for a Keras model, which has no labels and no preprocessing."""
        return None if isinstance(self._given, keras.Model) else self._opened()

    def model(self) -> keras.Model:
        """The Keras model."""
        return self._given if isinstance(self._given, keras.Model) else self._opened().model

    def _open(self) -> Classifier:
        path = self._given or _origin(self._folder, self._exported)
        if self._exported is None or Path(path).is_dir():
            return open_classifier(path)
        if self._exported.keras_options is not None:
            return open_classifier(path, None, self._exported.keras_options)
        return open_classifier(path, self._exported.network)


def _run_labels(
    folder: Path,
    exported: metadata.ExportMetadata | None,
    network: _Network,
    labels: Sequence[str] | None,
) -> str:
    origin = exported.origin if exported else None
    given = origin.find_labels(folder) if origin else None
    if labels is None and given:
        labels = read_class_names(given)
    if labels is None:
        classifier = network.classifier()
        labels = classifier.labels if classifier else None
    return record_checks.check_run_labels(folder, labels)


def _settings(
    graph: Any, exported: metadata.ExportMetadata | None, network: _Network, log: Check
) -> str:
    try:
        classifier = network.classifier()
    except CheckSkippedError:
        classifier = None
    records = int(log.detail.split()[0]) if log.passed else None
    return record_checks.check_settings(exported, classifier, graph, records)


def _check(name: str, finding: Callable[..., str], *arguments: Any) -> Check:
    try:
        return Check(name, True, finding(*arguments))
    except (CheckSkippedError, NoLoaderError) as reason:
        return Check(name, None, _first_line(reason))
    except (CheckFailedError, LoaderError, UserError) as fault:
        return Check(name, False, _first_line(fault))
    except Exception as error:  # of whatever kind a program that is damaged ends in
        return Check(name, False, f"{ENDED_IN} {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _running(
    folder: Path,
    exported: metadata.ExportMetadata | None,
    network: _Network,
    log: Check,
    known: bool,
) -> Iterator[Check]:
    """Makes the checks of the outputs; one child process runs all requests.

    known: the signatures are the contract's, so that outputs can be read.
    """
    runs: list[SampleRun] = []
    # An export without a record of its contents is of inception_tf 0.1.
    reads_all = exported is not None and exported.contents is not None
    probes = (
        probe_images.probe_images(exported.pixel_limit, all_kinds=reads_all)
        if exported and known
        else ()
    )

    def run() -> str:
        warm = warmup.read_warmup(folder) if log.passed else ()
        has_features = exported is not None and exported.features is not None
        runs.append(sample_run.run_sample_requests(folder, warm, probes, features=has_features))
        return runtime_checks.every_signature_runs(runs[0])

    def of_run(finding: Callable[..., str], *arguments: Any) -> str:
        if not runs:
            raise CheckSkippedError("the C++ loader did not load it")
        if not known:
            raise CheckSkippedError("the signatures are not the contract's")
        return finding(runs[0], *arguments)

    def of_probes(
        run: SampleRun, finding: Callable[..., str], *arguments: Callable[[], Any]
    ) -> str:
        if exported is None:
            raise CheckSkippedError("the export does not say how images are prepared")
        return finding(run, prepared(), *(argument() for argument in arguments))

    def prepared() -> Prepared:
        assert exported is not None  # of_probes has looked
        return probe_images.prepare_probes(
            exported.preprocessing, exported.pixel_limit, all_kinds=reads_all
        )

    def preprocessing() -> Any:
        return exported and exported.preprocessing

    def precision() -> Any:
        return exported and exported.precision

    yield _check("C++ loader", run)
    yield _check("probabilities", of_run, _are_probabilities, exported)
    yield _check("top classes", of_run, _names_follow_scores, folder, exported)
    yield _check("statuses", of_run, of_probes, runtime_checks.statuses_match)
    # Loaded once for both, and not at all where there are no outputs to compare with.
    load = cache(lambda: python_loader.load_in_python(folder))
    yield _check("Python loader", of_run, _as_in_python, load)
    yield _check(
        "preprocessing",
        of_run,
        of_probes,
        runtime_checks.as_prepared,
        preprocessing,
        lambda: python_loader.network_of(load()),
        precision,
    )
    yield _check(
        "Keras model",
        of_run,
        of_probes,
        runtime_checks.as_in_keras,
        preprocessing,
        network.model,
        precision,
    )
    yield _check("one bad image", of_run, runtime_checks.bad_image_fails_alone)
    yield _check("warm-up", of_run, runtime_checks.warm_up_replays) if log.passed else log


def _read_log(folder: Path) -> str:
    try:
        return f"{len(warmup.read_warmup(folder))} records"
    except UserError as error:
        raise CheckSkippedError(str(error)) from error
    except ValueError as error:
        raise CheckFailedError(str(error)) from error


def _are_probabilities(run: SampleRun, exported: metadata.ExportMetadata | None) -> str:
    return runtime_checks.are_probabilities(run, exported is not None and exported.multi_label)


def _names_follow_scores(
    run: SampleRun, folder: Path, exported: metadata.ExportMetadata | None
) -> str:
    labels = (
        exported.contents.labels
        if exported and exported.contents
        else read_labels(folder / static_checks.LABELS_FILE)
    )
    return runtime_checks.names_follow_scores(run, labels)


def _as_in_python(run: SampleRun, load: Callable[[], Any]) -> str:
    return runtime_checks.as_in_python(run, load())


def _origin(folder: Path, exported: metadata.ExportMetadata | None) -> str:
    if exported is None or exported.origin is None:
        raise CheckSkippedError("the export does not say where it came from; name it with --run")
    found = exported.origin.find(folder)
    if found is None:
        raise CheckSkippedError(
            f"{exported.origin.weights} does not exist or has changed since; name the run with --run"
        )
    return found.path
