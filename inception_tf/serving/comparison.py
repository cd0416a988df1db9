# SPDX-License-Identifier: Apache-2.0
"""One network in every format that it can be exported to: size, agreement, accuracy and latency, of the same images."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inception_tf.classifiers import Classifier
from inception_tf.data.loading import encoded_reader
from inception_tf.data.skipped import OK
from inception_tf.data.sources.splits import Source, Split
from inception_tf.errors import UserError
from inception_tf.evaluation.alignment import align_classes
from inception_tf.evaluation.metrics import in_top
from inception_tf.export.parity import sample_split
from inception_tf.export.runtimes import export_runtime
from inception_tf.export.savedmodel import export
from inception_tf.export.server_files import TRITON
from inception_tf.host.atomic_io import atomic_path
from inception_tf.host.hardware import processor_name
from inception_tf.host.plotting import new_figure
from inception_tf.inference import runtimes
from inception_tf.serving.predict import BATCH_SIZE, RunFunction, in_process, open_network

__all__ = ["COLUMNS", "ExportFigures", "compare_exports", "comparison_rows", "plot_comparison"]

KERAS = "Keras"
COLUMNS = ("format", "MB", "same class", "largest difference", "top-1", "ms", "p90 ms")
WARM_UP = 3  # images before the clock starts


@dataclass(frozen=True)
class ExportFigures:
    """What was measured of one format; the first is Keras itself, which the others are compared with."""

    format: str
    size: int | None  # bytes of the version folder; None for Keras
    same_top1: float  # fraction of the images with the same best class as in Keras
    largest_difference: float  # between two probabilities of one class
    top1: float  # accuracy, a fraction
    latency: float  # seconds from the bytes of one image to its probabilities, median
    latency_p90: float
    images: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return asdict(self)


def compare_exports(
    classifier: Classifier,
    source: Source,
    *,
    images: int = 200,
    repeats: int = 20,
    label_offset: int | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[ExportFigures]:
    """Exports a network to every format whose package is installed, and runs all on the same encoded images.

    Args:
        classifier: The network with its labels.
        source: Data with true classes; int8 takes its ranges from the training split.
        images: How many images of the split that training has not seen.
        repeats: How many single images are timed.
        label_offset: What the user subtracts from the labels of `source`; None: not given.
        log: Called with a line about each format, also where one is skipped, and why.

    Returns:
        The figures of Keras and of each format.

    Raises:
        UserError: The network has no labels, or no image can be read.
    """
    split = source.split()
    [aligned] = align_classes([classifier], source, split, label_offset)
    split = sample_split(split.shifted(aligned.shift), images)
    data, labels = _encoded(split), classifier.labels or ()
    network = in_process(classifier.model, labels, classifier.preprocessing)
    expected, good = _probabilities(network, data)
    if not good.any():
        raise UserError(f"none of the {len(split)} images can be read")

    def figures(name: str, size: int | None, run: RunFunction) -> ExportFigures:
        found, _ = _probabilities(run, data)
        found, before = found[good], expected[good]
        times = _times(run, data[good], repeats)
        return ExportFigures(
            *(name, size, float((found.argmax(1) == before.argmax(1)).mean())),
            largest_difference=float(np.abs(found - before).max()),
            top1=float(in_top(found, split.classes[good], 1).mean()),
            latency=statistics.median(times),
            latency_p90=float(np.percentile(times, 90)),
            images=int(good.sum()),
            device=processor_name(),
        )

    measured = [figures(KERAS, None, network)]
    for name, write in _formats(classifier, source, label_offset):
        log(f"exporting {classifier.name} as {name}")
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = write(Path(scratch, "model"))
                run, _ = open_network(folder)
            except UserError as error:
                log(f"skipped {name}: {error}")
                continue
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            measured.append(figures(name, size, run))
    return measured


def comparison_rows(measured: Sequence[ExportFigures]) -> list[tuple[str, ...]]:
    """Formats figures for a table.

    Args:
        measured: From `compare_exports`.

    Returns:
        A row of `COLUMNS` for each.
    """
    return [
        (
            one.format,
            "" if one.size is None else f"{one.size / 1e6:.1f}",
            f"{one.same_top1:.2%}",
            f"{one.largest_difference:.1e}",
            f"{one.top1:.2%}",
            f"{one.latency * 1e3:.1f}",
            f"{one.latency_p90 * 1e3:.1f}",
        )
        for one in measured
    ]


def plot_comparison(measured: Sequence[ExportFigures], path: str | Path) -> None:
    """Draws the latency of each format as a bar, with its values beside it, as a PNG.

    Args:
        measured: From `compare_exports`.
        path: The file to write.
    """
    figure = new_figure("--plot", 8, 1.2 + 0.5 * len(measured))
    axes = figure.add_subplot()
    places = range(len(measured))
    axes.barh(places, [one.latency * 1e3 for one in measured], color="0.65")
    for place, one in enumerate(measured):
        size = "" if one.size is None else f", {one.size / 1e6:.1f} MB"
        axes.text(
            one.latency * 1e3,
            place,
            f"  {one.latency * 1e3:.1f} ms{size}, top-1 {one.top1:.2%}",
            va="center",
        )
    axes.set_yticks(places, [one.format for one in measured])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6e3 * max(one.latency for one in measured))
    axes.set_xlabel("milliseconds from the bytes of one image to its probabilities, median")
    axes.set_title(f"{measured[0].images} images, {measured[0].device}", fontsize=9)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _formats(
    classifier: Classifier, source: Source, label_offset: int | None
) -> list[tuple[str, Callable[[Path], Path]]]:
    """Each format with a function that writes it below a folder and gives the version folder."""

    def saved_model(precision: str) -> Callable[[Path], Path]:
        return lambda to: export(
            *(classifier.model, classifier.labels or (), to, classifier.preprocessing),
            precision=precision,
        )

    def runtime(name: str, int8: bool) -> Callable[[Path], Path]:
        return lambda to: export_runtime(
            *(classifier, source, to),
            format=name,
            int8=int8,
            images=1,  # all are compared here
            max_drop=1.0,
            label_offset=label_offset,
        )[0]

    found = [
        ("saved_model", saved_model("float32")),
        ("saved_model bfloat16", saved_model("bfloat16")),
    ]
    for name in (*runtimes.FORMATS, TRITON):
        found.append((name, runtime(name, False)))
        if name == TRITON or runtimes.find_runtime(name).INT8:
            found.append((f"{name} int8", runtime(name, True)))
    return found


def _encoded(split: Split) -> np.ndarray:
    """(N,) contents of image files; pixels as PNG."""
    data = np.empty(len(split), object)
    if split.decoded:
        data[:] = [tf.io.encode_png(image).numpy() for image in np.asarray(split.images)]
        return data
    read = encoded_reader(split)
    for index in range(len(split)):
        try:
            data[index] = read(tf.constant(index, tf.int64)).numpy()
        except tf.errors.OpError:
            data[index] = b""  # counted as an image that cannot be read
    return data


def _probabilities(network: RunFunction, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) probabilities, and which images could be read."""
    parts = [network(data[start : start + BATCH_SIZE]) for start in range(0, len(data), BATCH_SIZE)]
    rows, statuses = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, statuses == OK.encode()


def _times(network: RunFunction, data: np.ndarray, repeats: int) -> list[float]:
    """Seconds for single images, after `WARM_UP`."""
    times = []
    for number in range(WARM_UP + repeats):
        one = data[[number % len(data)]]
        start = time.perf_counter()
        network(one)
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]
