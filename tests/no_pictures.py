# SPDX-License-Identifier: Apache-2.0
"""A SavedModel that is asked as an export is, without the graph that reads images, whose preparation takes a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from inception_tf.export.signatures import CONTRACT

__all__ = ["save_without_pictures"]


class NoPictures(tf.Module):
    """The same probabilities for whatever it is given."""

    def __init__(self, classes: int):
        super().__init__()
        self.probabilities = tf.Variable(tf.fill([classes], 1 / classes))

    def signature(self, name: str):
        (((key, (dtype, shape)),), _) = (part.items() for part in CONTRACT[name])
        return tf.function(self.answer, [tf.TensorSpec(shape, dtype, key)], autograph=False)

    def answer(self, images):
        rows = tf.shape(images)[:1]
        found = tf.repeat(self.probabilities[tf.newaxis], rows[0], axis=0)
        return {"probabilities": found, "status": tf.fill(rows, "ok")}


def save_without_pictures(
    folder: Path, labels: Sequence[str], names: Sequence[str] = tuple(CONTRACT), classes: int = 0
) -> Path:
    """Writes a version folder with the signatures `names`, for as many classes as labels if not told otherwise."""
    module = NoPictures(classes or len(labels))
    tf.saved_model.save(module, str(folder), {name: module.signature(name) for name in names})
    (folder / "assets/labels.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")
    return folder
