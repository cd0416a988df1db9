# SPDX-License-Identifier: Apache-2.0
"""The folder of a network in another runtime's format: the model and what a program needs to feed it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data.labels import read_labels, write_labels
from inception_tf.data.preprocessing import SCALES, Preprocessing
from inception_tf.errors import UserError, printable
from inception_tf.export.signatures import ServingModule
from inception_tf.host.files import read_text
from inception_tf.inference import runtimes
from inception_tf.inference.runtimes.graph import INPUT_NAME, OUTPUT_NAME
from inception_tf.savedmodel.versions import GRAPH_FILE, PREPROCESSING_FILE, find_runtime_folder

__all__ = [
    "Description",
    "LABELS",
    "REPORT_FILE",
    "write_description",
    "open_description",
    "read_format",
    "open_runtime_folder",
]

LABELS, REPORT_FILE = "labels.txt", "report.json"
SAVED_MODEL = "saved_model"


def write_description(folder: Path, labels: Sequence[str], preprocessing: Preprocessing) -> None:
    """Writes the labels, and how a client preprocesses an image, in words and in numbers.

    Args:
        folder: The folder of the model.
        labels: K class names.
        preprocessing: Size, crop and scale of the network.
    """
    write_labels(folder / LABELS, labels)
    scale = SCALES[preprocessing.scale]
    content = {
        "input": {
            "name": INPUT_NAME,
            "dtype": "float32",
            "shape": [None, preprocessing.size, preprocessing.size, 3],
        },
        "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": [None, len(labels)]},
        "steps": _steps(preprocessing),
        "channels": "BGR" if scale.bgr else "RGB",
        "mean": scale.mean,
        "deviation": scale.deviation,
        **dataclasses.asdict(preprocessing),
    }
    (folder / PREPROCESSING_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _steps(preprocessing: Preprocessing) -> list[str]:
    scale, size = SCALES[preprocessing.scale], preprocessing.size
    steps = ["decode to 8-bit RGB, a JPEG rotated upright by its EXIF orientation"]
    rounded, begin = "down", "(side - {size}) / 2 rounded to the nearest, halves to even"
    if not preprocessing.half_pixel_centers:
        rounded, begin = "to the nearest", "floor((side - {size}) / 2)"
    if preprocessing.shorter:
        steps.append(
            f"resize the shorter side to {preprocessing.shorter} pixels and the longer one in proportion, rounded"
            f" {rounded}; {_resampling(preprocessing)}"
        )
    elif preprocessing.stored:
        steps.append(
            f"resize to {preprocessing.stored}x{preprocessing.stored}; {_resampling(preprocessing)}"
        )
    else:
        if preprocessing.crop not in (None, 1.0):
            steps.append(
                f"of each side, n pixels long, cut off floor((n - n * {preprocessing.crop}) / 2) at both ends"
            )
        steps.append(f"resize to {size}x{size}; {_resampling(preprocessing)}")
    if preprocessing.shorter or preprocessing.stored:
        start = begin.format(size=size)
        steps.append(f"keep {size} pixels of each side, the first of them number {start}")
    if scale.bgr:
        steps.append("reverse the channels to BGR")
    return [*steps, f"(value - {scale.mean}) / {scale.deviation}, values from 0 to 255"]


def _resampling(preprocessing: Preprocessing) -> str:
    """How pixels are computed, as a client repeats it."""
    centers = "at half" if preprocessing.half_pixel_centers else "at the upper left corner"
    antialias = "" if preprocessing.antialias else "no "
    clipped = "" if preprocessing.interpolation == "bilinear" else ", clipped to 0 to 255"
    return f"{preprocessing.interpolation}, pixel centers {centers}, {antialias}antialiasing, not rounded{clipped}"


def read_format(folder: Path) -> str | None:
    """Reads which format a version folder has.

    Args:
        folder: The version folder.

    Returns:
        `saved_model` or a name in `runtimes.FORMATS`; None where the folder has neither.
    """
    if (folder / GRAPH_FILE).is_file():
        return SAVED_MODEL
    return _format_in(folder) if (folder / REPORT_FILE).is_file() else None


def _format_in(folder: Path) -> str:
    found = _read(folder / REPORT_FILE).get("format")
    if not isinstance(found, str):
        raise UserError(f"{folder / REPORT_FILE} names no format; export it again")
    return found


@dataclass(frozen=True)
class Description:
    """What a program needs to feed a network that takes pixels, and to name its answers."""

    labels: tuple[str, ...]
    preprocessing: Preprocessing

    def prepare(self, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decodes and preprocesses images as an export's signature does.

        Args:
            data: (N,) encoded images, an object array of bytes.

        Returns:
            (N, size, size, 3) float32 pixels, zeros for an image that cannot be read, and (N,) statuses, of bytes.
        """
        images, status = _reader(self.preprocessing)(tf.constant(data, tf.string))
        return images.numpy(), status.numpy()


@lru_cache(maxsize=8)  # each keeps its graph
def _reader(preprocessing: Preprocessing) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """The reader of an export's signatures, traced once for all folders of one preprocessing: it takes a second."""
    images = keras.Input((preprocessing.size, preprocessing.size, 3))
    unused = keras.Model(images, keras.layers.Flatten()(images))
    with tempfile.TemporaryDirectory() as scratch:
        write_labels(Path(scratch, LABELS), ["unused"])
        module = ServingModule(unused, f"{scratch}/{LABELS}", preprocessing, top=1)
    encoded = tf.TensorSpec([None], tf.string)
    return tf.function(lambda data: module.read_images(data), [encoded], autograph=False)


def open_description(path: Path) -> Description:
    """Reads the labels and the preprocessing of an export for another runtime.

    Args:
        path: Its version folder or the folder above it.

    Returns:
        The description.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    folder = find_runtime_folder(path)
    if folder is None:
        raise UserError(
            f"{path} has no {PREPROCESSING_FILE}; name the folder that inception-tf export --format"
            " triton, openvino, onnx or litert wrote"
        )
    described = _read(folder / PREPROCESSING_FILE)
    try:
        # Folders of earlier versions lack the fields that came later.
        names = {field.name for field in dataclasses.fields(Preprocessing)} & described.keys()
        preprocessing = Preprocessing.from_json({name: described[name] for name in names})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{folder / PREPROCESSING_FILE} is not what export writes ({error}); export it again"
        ) from error
    return Description(read_labels(folder / LABELS), preprocessing)


def open_runtime_folder(folder: Path) -> tuple[Callable, tuple[str, ...]]:
    """Loads a network for another runtime, with its preprocessing.

    Args:
        folder: The version folder.

    Returns:
        A function of (N,) encoded images, an object array, that gives (N, K) probabilities and (N,) statuses as the
        SavedModel's signature does; and the K labels.

    Raises:
        UserError: A file cannot be read, or the runtime is not installed.
    """
    runtime = runtimes.find_runtime(_format_in(folder))
    runtime.check_installed()
    described = open_description(folder)
    file = folder / runtime.FILES[0]
    with _damaged(file, "loaded"):
        run = runtime.load_model(folder)

    def network(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, status = described.prepare(data)
        with _damaged(file, f"run on {images.shape[1]}x{images.shape[2]} pixels"):
            return run(images), status

    return network, described.labels


@contextlib.contextmanager
def _damaged(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of whatever kind the runtime raises for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{file} cannot be {what} ({printable(reason[:200])}); export it again"
        ) from error


def _read(path: Path) -> dict:
    try:
        values = json.loads(read_text(path))
        if not isinstance(values, dict):
            raise TypeError("no object")
        return values
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not what export writes ({error}); export it again") from error
