# SPDX-License-Identifier: Apache-2.0
"""Class names for images, from a run folder or an exported model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_tf.data.labels import read_labels, write_labels
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.data.skipped import OK
from inception_tf.errors import UserError
from inception_tf.export.metadata import read_metadata
from inception_tf.host.silence import silence
from inception_tf.inference.prediction import THRESHOLD, Prediction, read_image
from inception_tf.run_folder import Run
from inception_tf.savedmodel.c_api import LoaderError, NoLoaderError, Session
from inception_tf.savedmodel.python_loader import load_saved_model
from inception_tf.savedmodel.signature_def import read_signatures
from inception_tf.savedmodel.versions import find_runtime_folder, newest_version

if TYPE_CHECKING:
    import keras

__all__ = [
    "BATCH_SIZE",
    "PredictFunction",
    "RunFunction",
    "find_model",
    "in_process",
    "open_model",
    "open_network",
    "open_signature",
    "predict",
    "ranked",
    "threshold_of",
    "wanted",
]

BATCH_SIZE = 32
TOP = 5  # classes of a prediction
SIGNATURE, INPUT, OUTPUTS = "serving_default", "image_bytes", ("probabilities", "status")

ClassScores = tuple[
    str, tuple[tuple[str, float], ...]
]  # status, and the best classes with their scores
PredictFunction = Callable[[Sequence[bytes], int | None], list[ClassScores]]  # None: all classes
# (N,) encoded images, an object array → (N, K) probabilities or features, and (N,) statuses, of bytes.
RunFunction = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def predict(
    path: str | Path,
    images: Sequence[str],
    top: int | None = None,
    threshold: float | None = None,
) -> list[Prediction]:
    """Classifies image files.

    Args:
        path: A run folder, a version folder of a SavedModel or of another runtime's model, or the folder above it, of
            which the newest version is taken.
        images: Paths of image files.
        top: How many of the best classes a prediction has; None: 5, or with a threshold all above it.
        threshold: The lowest probability of a class that a prediction has; None: 0.5 where the classes are independent,
            so that an image has any number of them, else none.

    Returns:
        A prediction for each image, in order; an image that cannot be read has a status and no classes.

    Raises:
        UserError: `path` is none of these, or the model does not run.

    Example:
        for prediction in predict("runs/digits", ["digit.png"], top=3):
            print(prediction.image, prediction.top)
    """
    classify = open_model(path)
    if threshold is None:
        threshold = threshold_of(path)
    top = wanted(top, threshold)
    predictions: list[Prediction] = []
    for start in range(0, len(images), BATCH_SIZE):
        predictions += _predict_files(classify, images[start : start + BATCH_SIZE], top)
    return [prediction.above(threshold) for prediction in predictions]


def threshold_of(path: str | Path) -> float | None:
    """The probability from which on a model predicts a class, where its classes are independent.

    Args:
        path: As for `predict`.

    Returns:
        0.5; None where an image shows one class.
    """
    path = Path(path)
    if Run(path).config_file.is_file():
        return THRESHOLD if Run(path).config().data.multi_label else None
    try:
        exported = read_metadata(newest_version(path))
    except UserError:
        return None
    return THRESHOLD if exported and exported.multi_label else None


def wanted(top: int | None, threshold: float | None) -> int | None:
    """How many classes to ask a model for.

    Args:
        top: What the user asks for; None: nothing.
        threshold: The lowest probability; None: there is none.

    Returns:
        `top`; without it None, all, where a threshold decides, else 5.
    """
    return TOP if top is None and threshold is None else top


def open_model(path: str | Path) -> PredictFunction:
    """Loads a model for encoded images.

    Args:
        path: As for `predict`.

    Returns:
        A function of N encoded images and the number of classes wanted, which gives status and best classes of each
        image; a status other than `ok` comes without classes.

    Raises:
        UserError: `path` holds no model.
    """
    return ranked(*open_network(Path(path)))


def open_signature(folder: Path, name: str, outputs: tuple[str, str]) -> RunFunction:
    """Loads one signature of a SavedModel that takes encoded images.

    Args:
        folder: The version folder.
        name: The signature, which it has.
        outputs: Names of its values, (N, ...) float32, and of its statuses, (N,) string.

    Returns:
        A function of (N,) encoded images, an object array, that gives these outputs.

    Raises:
        UserError: The SavedModel is damaged.

    Example:
        network = open_signature(Path("saved_models/digits/1"), "serving_default", ("probabilities", "status"))
    """
    try:
        return _open_session(folder, name, outputs)
    except NoLoaderError:
        return _open_module(folder, name, outputs)


def ranked(network: RunFunction, labels: Sequence[str]) -> PredictFunction:
    """Names the best classes of each image.

    Args:
        network: A function of encoded images, which gives probabilities and statuses.
        labels: K class names.

    Returns:
        As `open_model` does.
    """

    def classify(data: Sequence[bytes], top: int | None) -> list[ClassScores]:
        images = np.empty(len(data), object)
        images[:] = data
        probabilities, statuses = network(images)
        classes = probabilities.shape[-1]
        if classes != len(labels):
            raise UserError(
                f"the model gives {classes} probabilities for {len(labels)} labels; export it again"
            )
        results: list[ClassScores] = []
        for row, status in zip(probabilities, statuses, strict=True):
            best = np.argsort(-row, kind="stable")[:top] if status == OK.encode() else ()
            results.append((status.decode(), tuple((labels[i], float(row[i])) for i in best)))
        return results

    return classify


def find_model(path: str | Path) -> Path:
    """Finds a SavedModel that takes encoded images.

    Args:
        path: A version folder, or the folder above it, of which the newest version is taken.

    Returns:
        The version folder.

    Raises:
        UserError: There is no SavedModel, or it takes something else.
    """
    folder = newest_version(path)
    signature = read_signatures(folder).get(SIGNATURE)
    if signature is None or INPUT not in signature.inputs:
        raise UserError(
            f"{folder} takes no encoded images: it has no signature {SIGNATURE}(image_bytes);"
            " export it again with inception-tf export"
        )
    missing = [name for name in OUTPUTS if name not in signature.outputs]
    if missing:
        raise UserError(
            f"{folder} has no output {missing[0]}; export it again with inception-tf export"
        )
    return folder


def _predict_files(
    classify: PredictFunction, images: Sequence[str], top: int | None
) -> list[Prediction]:
    data, unread = zip(*map(read_image, images), strict=True)
    return [
        Prediction(image, reason or status, best)
        for image, reason, (status, best) in zip(images, unread, classify(data, top), strict=True)
    ]


def open_network(path: Path) -> tuple[RunFunction, tuple[str, ...]]:
    """Opens a run, a SavedModel or another runtime's folder.

    Args:
        path: As for `predict`.

    Returns:
        A function of encoded images, which gives probabilities and statuses; and the labels.

    Raises:
        UserError: `path` holds no model, or a damaged one, which is named.
    """
    # Importing TensorFlow's Python takes longer than all else before a SavedModel's first output.
    if Run(path).config_file.is_file():
        return _open_run(path)
    # By what is there: that a SavedModel is damaged does not make it one of another format.
    converted = find_runtime_folder(path)
    if converted is not None:
        from inception_tf.export import runtime_folder

        return runtime_folder.open_runtime_folder(converted)
    folder = find_model(path)
    labels = read_labels(folder / "assets" / "labels.txt")
    return open_signature(folder, SIGNATURE, OUTPUTS), labels


def _open_run(path: Path) -> tuple[RunFunction, tuple[str, ...]]:
    from inception_tf.classifiers import open_run
    from inception_tf.inference.optimize import optimize_for_inference

    found = open_run(path)
    labels = found.labels or ()
    return in_process(optimize_for_inference(found.model), labels, found.preprocessing), labels


def in_process(
    model: keras.Model, labels: Sequence[str], preprocessing: Preprocessing
) -> RunFunction:
    """Runs a network as its export would.

    Args:
        model: (N, size, size, 3) floats as `preprocessing` scales them → (N, K) probabilities.
        labels: K class names.
        preprocessing: What the network expects.

    Returns:
        (N,) encoded images, an object array → (N, K) probabilities and (N,) statuses, of bytes.
    """
    from inception_tf.export.signatures import ServingModule

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "labels.txt")
        write_labels(file, labels)
        module = ServingModule(model, str(file), preprocessing, top=1)
    # The lambda keeps the module alive.
    return _eager(lambda images: module.serving_default(images), OUTPUTS)


def _open_session(folder: Path, name: str, outputs: tuple[str, str]) -> RunFunction:
    """The SavedModel in TensorFlow's C++ session."""
    signature = read_signatures(folder)[name]
    with silence(), _broken(folder):  # one line of C++'s log ignores TF_CPP_MIN_LOG_LEVEL
        session = Session(os.fspath(folder))
    fetches = [signature.outputs[output] for output in outputs]

    def network(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with _broken(folder):
            values, statuses = session.run({signature.inputs[INPUT]: images}, fetches)
        kinds = (values.dtype, values.ndim, statuses.dtype, statuses.shape)
        if kinds != (np.float32, 2, object, images.shape) or len(values) != len(images):
            raise UserError(
                f"{folder} gives other outputs than an export; inception-tf verify shows what is wrong with it"
            )
        return values, statuses

    return network


@contextmanager
def _broken(folder: Path) -> Iterator[None]:
    """Turns TensorFlow's errors for a damaged SavedModel into a sentence."""
    try:
        yield
    except NoLoaderError:
        raise
    except LoaderError as error:
        first = str(error).partition("\n")[0]
        raise UserError(
            f"{folder} does not run; inception-tf verify shows what is wrong with it ({first})"
        ) from error


def _open_module(folder: Path, name: str, outputs: tuple[str, str]) -> RunFunction:
    """The SavedModel in TensorFlow's Python, where its wheel has no C++ library to call."""
    loaded = load_saved_model(folder)
    return _eager(lambda images: loaded.signatures[name](**{INPUT: images}), outputs)


def _eager(call: Callable[[Any], Mapping[str, Any]], outputs: tuple[str, str]) -> RunFunction:
    """Wraps a function of tensors, with outputs by name, as one of NumPy arrays with two of them."""
    import tensorflow as tf

    def network(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = call(tf.constant(images, tf.string))
        values, statuses = (found[output].numpy() for output in outputs)
        return values, statuses

    return network
