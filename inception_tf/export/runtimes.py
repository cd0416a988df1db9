# SPDX-License-Identifier: Apache-2.0
"""A trained network into a numbered folder for OpenVINO, ONNX Runtime or LiteRT, compared with Keras on real images."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from inception_tf.classifiers import Classifier
from inception_tf.data.skipped import LIMIT
from inception_tf.data.sources.splits import Source, Split
from inception_tf.errors import UserError
from inception_tf.evaluation.alignment import align_classes
from inception_tf.export import server_files
from inception_tf.export.metadata import Origin
from inception_tf.export.parity import Parity, compare_outputs, image_batches, sample_split
from inception_tf.export.runtime_folder import (
    REPORT_FILE,
    Description,
    read_format,
    write_description,
)
from inception_tf.export.served_network import check_labels, is_untrained, served_network
from inception_tf.host.backend import needs_tensorflow_backend
from inception_tf.host.environment import environment
from inception_tf.inference import runtimes
from inception_tf.inference.optimize import in_precision
from inception_tf.inference.runtimes import Runtime
from inception_tf.savedmodel.versions import (
    atomic_version,
    check_version_free,
    keep_notes,
    list_versions,
    publish_version,
)

__all__ = [
    "CALIBRATION_IMAGES",
    "PARITY_IMAGES",
    "MAX_DROP",
    "TOLERANCE",
    "RuntimeReport",
    "export_runtime",
]

PARITY_IMAGES = 500  # that the outputs are compared on
CALIBRATION_IMAGES = 300  # as many as NNCF takes by itself
MAX_DROP = 0.01  # of top-1, a fraction of the images
TOLERANCE = 1e-4  # between float32 probabilities in Keras and in the runtime
BATCH_SIZE = 32
CALIBRATION_BATCH = 10  # the feature maps of so many images are in memory at the same time
TRAIN = "train"


@dataclass(frozen=True)
class RuntimeReport:
    """How a network was converted and with what result; the content of `report.json`."""

    format: str
    network: str  # the Keras model's name
    int8: dict | None  # how the ranges were found, and on how many images; None for float32
    files: dict[str, int]  # bytes
    data: str
    split: str  # that the outputs were compared on
    agreement: Parity
    max_drop: float  # allowed, a fraction of the images
    tolerance: float | None  # of the largest difference; None for int8
    origin: Origin | None
    environment: dict[str, str | None]  # versions, and the commit of the code
    switches: Mapping[str, Any] | None  # as `Classifier` has them


def export_runtime(
    classifier: Classifier,
    source: Source,
    to: str | Path,
    *,
    format: str,
    int8: bool = False,
    images: int = PARITY_IMAGES,
    max_drop: float = MAX_DROP,
    version: int | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    max_bad: float = LIMIT,
    label_offset: int | None = None,
    origin: Origin | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Path, RuntimeReport]:
    """Converts a classifier for another runtime and compares the outputs on real images.

    The input is float32 as in training, and not bytes: a resized image has values between integers, and
    folding a scale into the first convolution would move its zero padding.

    Args:
        classifier: The network with its labels and its preprocessing.
        source: Data to compare on, and for int8 to calibrate with.
        to: The folder of the versions.
        format: A name in `runtimes.FORMATS`, or `triton`: ONNX, or for int8 OpenVINO, with Triton's files.
        int8: Quantize weights and feature maps; their ranges come from the training split.
        images: How many images of the split that training has not seen both are run on.
        max_drop: Largest allowed loss of top-1 accuracy, a fraction of the images.
        version: Number of the version folder; None for the highest plus 1.
        calibration_images: How many training images give the ranges of int8.
        max_bad: Largest allowed fraction of unreadable images, in [0, 1].
        label_offset: What the user subtracts from the labels of `source`; None: not given.
        origin: Where the weights came from.
        log: Called with a line at the start of each stage.

    Returns:
        The version folder and its report.

    Raises:
        UserError: int8 loses more than `max_drop`, float32 differs by more than `TOLERANCE`, a package is missing, or
            the version exists; nothing is left behind then.
    """
    needs_tensorflow_backend("export")
    to, server = Path(to), _server(format)
    if format == server_files.TRITON:
        format = server_files.triton_runtime(int8)
    runtime = _runtime(format, int8)
    check_version_free(to, version)
    _check_kin(to, format)
    network = served_network(classifier.model, classifier.preprocessing.size)
    labels = classifier.labels or ()
    check_labels(labels, network.output_shape[-1])
    described = Description(tuple(labels), classifier.preprocessing)
    if server:
        server_files.check_same_model(to, server, described)
    split, training = source.split(), _training(source) if int8 else None
    [aligned] = align_classes([classifier], source, split, label_offset)
    split = split.shifted(aligned.shift)
    if is_untrained(network):
        warnings.warn(
            f"'{network.name}' is untrained: its parity says nothing about a trained network",
            stacklevel=2,
        )
    read = partial(image_batches, preprocessing=classifier.preprocessing, max_bad=max_bad)

    with atomic_version(to) as building:
        folder = building / "model"
        folder.mkdir()
        calibration, ranges = None, None
        if training:
            log(f"reading images of {source.name} for calibration")
            batches = read(sample_split(training, calibration_images), batch_size=CALIBRATION_BATCH)
            calibration = [pixels for pixels, _ in batches]
            ranges = (runtime.INT8 or {}) | {"images": sum(map(len, calibration))}
        log(f"converting {network.name} for {format}")
        runtime.write_model(network, folder, calibration)
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        log(f"comparing with Keras on {source.name}")
        agreement = compare_outputs(
            in_precision(network, "float32"),
            runtime.load_model(folder),
            read(sample_split(split, images), batch_size=BATCH_SIZE),
        )
        report = RuntimeReport(
            format=format,
            network=network.name,
            int8=ranges,
            files=files,
            data=source.name,
            split=source.held_out_split(),
            agreement=agreement,
            max_drop=max_drop,
            tolerance=None if int8 else TOLERANCE,
            origin=origin,
            environment=environment() | _versions(runtime.PACKAGES),
            switches=classifier.switches,
        )
        _check_agreement(report)
        write_description(folder, labels, classifier.preprocessing)
        text = json.dumps(dataclasses.asdict(report), indent=2) + "\n"
        (folder / REPORT_FILE).write_text(text, encoding="utf-8")
        notes = building / "notes"
        notes.mkdir()
        if server:
            server_files.write_server_files(notes, to.absolute().name, server, format, described)
        published = publish_version(folder, to, version)
        keep_notes(notes, to)
        return published, report


def _server(format: str) -> str | None:
    """The server whose files lie beside the versions."""
    of_format = {"openvino": server_files.OVMS, server_files.TRITON: server_files.TRITON}
    return of_format.get(format)


def _runtime(format: str, int8: bool) -> Runtime:
    runtime = runtimes.find_runtime(format)
    if int8 and runtime.INT8 is None:
        able = [name for name in runtimes.FORMATS if runtimes.find_runtime(name).INT8]
        raise UserError(f"format '{format}' has no int8; these have: {', '.join(able)}")
    runtime.check_installed(int8)
    return runtime


def _check_kin(to: Path, format: str) -> None:
    """Raises `UserError` where `to` holds versions of another form: a reader of the newest would find the wrong one."""
    for folder in list_versions(to).values() if to.is_dir() else ():
        form = read_format(folder)
        if form not in (None, format):
            raise UserError(
                f"'{to}' holds versions for {form}, and a reader of the newest would find one for"
                f" {format}; give another folder with --to"
            )


def _training(source: Source) -> Split:
    """The images that int8 takes its ranges from: not those that it is evaluated on."""
    if TRAIN not in source.splits:
        raise UserError(
            f"int8 is calibrated on training images, and {source.name} has only:"
            f" {', '.join(source.splits)}; give data with a training split, or drop --int8"
        )
    return source.split(TRAIN)


def _check_agreement(report: RuntimeReport) -> None:
    found, what = report.agreement, f"{report.format}{' in int8' if report.int8 else ''}"
    if not math.isfinite(found.largest_difference):
        raise UserError(f"{what} gives values that are not finite; nothing was exported")
    if report.tolerance and found.largest_difference > report.tolerance:
        raise UserError(
            f"{what} differs from the Keras model by {found.largest_difference:.1e} in a probability,"
            f" more than {report.tolerance:.0e}; nothing was exported; choose another format"
        )
    # Accuracies are ratios of counts: their difference may have a rounding error.
    if found.drop > report.max_drop + 1e-9:
        raise UserError(
            f"{what} has a top-1 accuracy of {found.top1_after:.2%} on {found.images} images, the Keras"
            f" model {found.top1_before:.2%}: {found.drop:.2%} less, at most {report.max_drop:.2%} is"
            " allowed; nothing was exported; drop --int8 or allow more with --max-drop"
        )


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
