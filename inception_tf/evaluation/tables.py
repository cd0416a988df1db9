# SPDX-License-Identifier: Apache-2.0
"""Predictions as tables: a row for each image, in a file, and a row for each class."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError, missing_package
from inception_tf.evaluation.metrics import Predictions, confusion_matrix
from inception_tf.host.atomic_io import atomic_path

__all__ = ["FORMS", "class_metrics", "image_rows", "write_rows"]

FORMS = (".csv", ".parquet")
COLUMNS = ("path", "true", "predicted", "score", "correct")


def class_metrics(predictions: Predictions, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Computes precision, recall, F1 and support of each class.

    Args:
        predictions: of one network or an ensemble.
        labels: K class names.

    Returns:
        K dicts: name, images (support: with this true class), predicted (with this predicted class), precision, recall
        and f1 in [0, 1]; 0 where nothing was predicted or nothing was there, as in scikit-learn.
    """
    counts = confusion_matrix(predictions)
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return [
        {
            "name": label,
            "images": int(true[number]),
            "predicted": int(predicted[number]),
            "precision": float(right[number] / max(predicted[number], 1)),
            "recall": float(right[number] / max(true[number], 1)),
            "f1": float(2 * right[number] / max(true[number] + predicted[number], 1)),
        }
        for number, label in enumerate(labels)
    ]


def image_rows(
    predictions: Predictions, split: Split, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Lists the image, its true class, its best class and whether they agree.

    Args:
        predictions: of images of `split`.
        split: for the images' names.
        labels: K class names.

    Returns:
        A dict for each image that could be read, by `COLUMNS`; score: the best class' probability.
    """
    best = predictions.probabilities.argmax(axis=1)
    scores = predictions.probabilities.max(axis=1)
    return [
        dict(
            zip(
                COLUMNS,
                (
                    split.describe(int(i)),
                    labels[true],
                    labels[found],
                    float(score),
                    bool(true == found),
                ),
                strict=True,
            )
        )
        for i, true, found, score in zip(
            predictions.indices, predictions.classes, best, scores, strict=True
        )
    ]


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes a table of `image_rows`, completely or not at all.

    Args:
        rows: dicts with `COLUMNS`.
        path: ends in .csv or .parquet.

    Raises:
        UserError: Another ending, or pyarrow is missing for .parquet.
    """
    if path.suffix == ".csv":
        lines = io.StringIO(newline="")
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        with atomic_path(path) as temporary:
            # A file name may hold bytes that are no UTF-8; they stay as they are.
            temporary.write_bytes(lines.getvalue().encode("utf-8", "surrogateescape"))
        return
    if path.suffix != ".parquet":
        raise UserError(f"{path} ends in neither .csv nor .parquet; its ending decides the format")
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise missing_package("a .parquet file", "pyarrow", "beam") from error
    with atomic_path(path) as temporary:
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
