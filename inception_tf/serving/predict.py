# SPDX-License-Identifier: Apache-2.0
"""Names for images, from a run folder or an exported SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from inception_tf.data.images import OK
from inception_tf.data.labels import read_labels
from inception_tf.errors import UserError
from inception_tf.evaluation.members import open_run
from inception_tf.optimize import optimize_for_inference
from inception_tf.serving import loader, runtime_folder
from inception_tf.serving.answers import Answer, read_image
from inception_tf.serving.signatures import ServingModule
from inception_tf.serving.versions import newest_version
from inception_tf.training.run import Run

__all__ = ["Answer", "Ask", "find_model", "open_model", "predict"]

BATCH_SIZE = 32
SIGNATURE = "serving_default"

Named = tuple[str, tuple[tuple[str, float], ...]]  # status, and the best classes with their scores
Ask = Callable[[Sequence[bytes], int], list[Named]]


def predict(path: str | Path, images: Sequence[str], top: int = 5) -> list[Answer]:
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


def open_model(path: str | Path) -> Ask:
    """What `path` answers: (N encoded images, how many classes) → status and best classes of each.

    path: as `predict` takes it.  A status other than `ok` comes with no classes.
    """
    signature, labels = _open(Path(path))

    def ask(data: Sequence[bytes], top: int) -> list[Named]:
        outputs = signature(tf.constant(data, tf.string))
        named = []
        for row, status in zip(
            outputs["probabilities"].numpy(), outputs["status"].numpy(), strict=True
        ):
            best = np.argsort(-row, kind="stable")[:top] if status == OK.encode() else ()
            named.append((status.decode(), tuple((labels[i], float(row[i])) for i in best)))
        return named

    return ask


def find_model(path: str | Path) -> Path:
    """The folder of the SavedModel `path`, or of its newest version, which takes encoded images.

    Raises `UserError` where it is none or takes something else.
    """
    folder = newest_version(path)
    signature = loader.meta_graph(folder).signature_def.get(SIGNATURE)
    if signature is None or "image_bytes" not in signature.inputs:
        raise UserError(
            f"{folder} takes no encoded images: it has no signature {SIGNATURE}(image_bytes);"
            " export it again with inception-tf export"
        )
    return folder


def _ask(ask: Ask, images: Sequence[str], top: int) -> list[Answer]:
    data, unread = zip(*map(read_image, images), strict=True)
    return [
        Answer(image, reason or status, best)
        for image, reason, (status, best) in zip(images, unread, ask(data, top), strict=True)
    ]


def _open(path: Path) -> tuple[Callable, tuple[str, ...]]:
    """(N,) encoded images → probabilities and status, and the labels, of a run, a SavedModel or another runtime's folder."""
    run = Run(path)
    if run.config_file.is_file():
        member = open_run(path)
        network = optimize_for_inference(member.model)
        module = ServingModule(network, str(run.labels_file), member.view, top=1)
        return lambda data: module.serving_default(data), member.labels  # keeps the module alive
    converted = runtime_folder.find(path)
    if converted:
        return runtime_folder.open_folder(converted)
    folder = find_model(path)
    loaded = tf.saved_model.load(str(folder))

    def ask(data):
        # The loaded object owns the variables: it has to live as long as its signature.
        return loaded.signatures[SIGNATURE](image_bytes=data)

    return ask, read_labels(folder / "assets" / "labels.txt")
