# SPDX-License-Identifier: Apache-2.0
"""Names for images, from a run folder or an exported SavedModel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inception_tf.data.labels import read_labels
from inception_tf.data.skipped import OK
from inception_tf.errors import UserError
from inception_tf.host.silence import silence
from inception_tf.run_folder import Run
from inception_tf.savedmodel.c_api import LoaderError, NoLoaderError, Session
from inception_tf.savedmodel.signature_def import Signature, read_signatures
from inception_tf.savedmodel.versions import newest_version
from inception_tf.serving.client.prediction import Prediction, read_image

__all__ = ["PredictFunction", "find_model", "open_model", "predict"]

BATCH_SIZE = 32
SIGNATURE, INPUT, OUTPUTS = "serving_default", "image_bytes", ("probabilities", "status")

ClassScores = tuple[
    str, tuple[tuple[str, float], ...]
]  # status, and the best classes with their scores
PredictFunction = Callable[[Sequence[bytes], int], list[ClassScores]]
# (N,) encoded images, an object array → (N, K) probabilities and (N,) statuses, of bytes.
RunFunction = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def predict(path: str | Path, images: Sequence[str], top: int = 5) -> list[Prediction]:
    """One answer an image, in order; an image that cannot be read has a status and no classes.

    path: a run folder, a SavedModel's version folder or one for another runtime, or the folder above it
    (its newest version).
    Raises `UserError` where `path` is neither.
    """
    ask = open_model(path)
    answers = []
    for start in range(0, len(images), BATCH_SIZE):
        answers += _ask(ask, images[start : start + BATCH_SIZE], top)
    return answers


def open_model(path: str | Path) -> PredictFunction:
    """What `path` answers: (N encoded images, how many classes) → status and best classes of each.

    path: as `predict` takes it.  A status other than `ok` comes with no classes.
    """
    network, labels = _open(Path(path))

    def ask(data: Sequence[bytes], top: int) -> list[ClassScores]:
        images = np.empty(len(data), object)
        images[:] = data
        probabilities, statuses = network(images)
        named = []
        for row, status in zip(probabilities, statuses, strict=True):
            best = np.argsort(-row, kind="stable")[:top] if status == OK.encode() else ()
            named.append((status.decode(), tuple((labels[i], float(row[i])) for i in best)))
        return named

    return ask


def find_model(path: str | Path) -> Path:
    """The folder of the SavedModel `path`, or of its newest version, which takes encoded images.

    Raises `UserError` where it is none or takes something else.
    """
    folder = newest_version(path)
    _signature(folder)
    return folder


def _signature(folder: Path) -> Signature:
    signature = read_signatures(folder).get(SIGNATURE)
    if signature is None or INPUT not in signature.inputs:
        raise UserError(
            f"{folder} takes no encoded images: it has no signature {SIGNATURE}(image_bytes);"
            " export it again with inception-tf export"
        )
    return signature


def _ask(ask: PredictFunction, images: Sequence[str], top: int) -> list[Prediction]:
    data, unread = zip(*map(read_image, images), strict=True)
    return [
        Prediction(image, reason or status, best)
        for image, reason, (status, best) in zip(images, unread, ask(data, top), strict=True)
    ]


def _open(path: Path) -> tuple[RunFunction, tuple[str, ...]]:
    """What a run, a SavedModel or another runtime's folder computes, and its labels."""
    # Importing TensorFlow's Python takes longer than all else that a SavedModel's first answer needs.
    if Run(path).config_file.is_file():
        return _open_run(path)
    try:
        folder = find_model(path)
    except UserError:
        from inception_tf.export import runtime_folder

        converted = runtime_folder.find_runtime_folder(path)
        if converted is None:
            raise
        return runtime_folder.open_runtime_folder(converted)
    labels = read_labels(folder / "assets" / "labels.txt")
    try:
        return _open_session(folder), labels
    except NoLoaderError:
        return _open_module(folder), labels


def _open_run(path: Path) -> tuple[RunFunction, tuple[str, ...]]:
    from inception_tf.classifiers import open_run
    from inception_tf.export.signatures import ServingModule
    from inception_tf.inference.optimize import optimize_for_inference

    member = open_run(path)
    network = optimize_for_inference(member.model)
    module = ServingModule(network, str(Run(path).labels_file), member.preprocessing, top=1)
    # The lambda keeps the module alive.
    return _eager(lambda images: module.serving_default(images)), member.labels


def _open_session(folder: Path) -> RunFunction:
    """The SavedModel in TensorFlow's C++ session."""
    signature = _signature(folder)
    with silence(), _broken(folder):  # one line of C++'s log does not heed TF_CPP_MIN_LOG_LEVEL
        session = Session(os.fspath(folder))
    fetches = [signature.outputs[name] for name in OUTPUTS]

    def network(images):
        with _broken(folder):
            return tuple(session.run({signature.inputs[INPUT]: images}, fetches))

    return network


@contextmanager
def _broken(folder: Path) -> Iterator[None]:
    """Turns what TensorFlow says of a damaged SavedModel into a sentence."""
    try:
        yield
    except NoLoaderError:
        raise
    except LoaderError as error:
        first = str(error).partition("\n")[0]
        raise UserError(
            f"{folder} does not run; inception-tf verify says what is wrong with it ({first})"
        ) from error


def _open_module(folder: Path) -> RunFunction:
    """The SavedModel in TensorFlow's Python, where its wheel has no C++ library to call."""
    import tensorflow as tf

    # The loaded object owns the variables: it has to live as long as its signature.
    loaded = tf.saved_model.load(os.fspath(folder))
    return _eager(lambda images: loaded.signatures[SIGNATURE](**{INPUT: images}))


def _eager(call: Callable) -> RunFunction:
    """A function of tensors that gives outputs by name, as one of NumPy arrays that gives two of them."""
    import tensorflow as tf

    def network(images):
        outputs = call(tf.constant(images, tf.string))
        return tuple(outputs[name].numpy() for name in OUTPUTS)

    return network
