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
from inception_tf.serving.answers import Answer, read_image
from inception_tf.serving.signatures import ServingModule
from inception_tf.serving.versions import newest_version
from inception_tf.training.run import Run

__all__ = ["Answer", "predict"]

BATCH_SIZE = 32


def predict(path: str | Path, images: Sequence[str], top: int = 5) -> list[Answer]:
    """One answer an image, in order; an image that cannot be read has a status and no classes.

    path: a run folder, a SavedModel's version folder, or the folder above it (its newest version).
    Raises `UserError` where `path` is neither.
    """
    ask, labels = _open(Path(path))
    answers = []
    for start in range(0, len(images), BATCH_SIZE):
        answers += _ask(ask, labels, images[start : start + BATCH_SIZE], top)
    return answers


def _ask(ask: Callable, labels: Sequence[str], images: Sequence[str], top: int) -> list[Answer]:
    data, unread = zip(*map(read_image, images), strict=True)
    outputs = ask(tf.constant(data))
    answers = []
    for image, reason, row, status in zip(
        images, unread, outputs["probabilities"].numpy(), outputs["status"].numpy(), strict=True
    ):
        status = reason or status.decode()
        best = np.argsort(-row, kind="stable")[:top] if status == OK else ()
        answers.append(Answer(image, status, tuple((labels[i], float(row[i])) for i in best)))
    return answers


def _open(path: Path) -> tuple[Callable, tuple[str, ...]]:
    """(N,) encoded images → probabilities and status, and the labels, of a run or a SavedModel."""
    run = Run(path)
    if run.config_file.is_file():
        member = open_run(path)
        module = ServingModule(member.model, str(run.labels_file), member.view, top=1)
        return lambda data: module.serving_default(data), member.labels  # keeps the module alive
    folder = newest_version(path)
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures.get("serving_default")
    if signature is None or "image_bytes" not in signature.structured_input_signature[1]:
        raise UserError(
            f"{folder} takes no encoded images: it has no signature serving_default(image_bytes);"
            " export it again with inception-tf export"
        )

    def ask(data):
        # The loaded object owns the variables: it has to live as long as its signature.
        return loaded.signatures["serving_default"](image_bytes=data)

    return ask, read_labels(folder / "assets" / "labels.txt")
