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
from inception_tf.inference.prediction import THRESHOLD, named_answers

__all__ = ["FORMS", "class_metrics", "image_rows", "write_rows"]

FORMS = (".csv", ".parquet")
COLUMNS = ("path", "true", "predicted", "score", "correct")
BETWEEN = "|"  # names of several classes


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
    predictions: Predictions,
    split: Split,
    labels: Sequence[str],
    threshold: float = THRESHOLD,
) -> list[dict[str, Any]]:
    """Lists the image, its true class, its best class and whether they agree.

    Args:
        predictions: of images of `split`.
        split: for the images' names.
        labels: K class names.
        threshold: of multi-label data, from which probability on a class is predicted.

    Returns:
        A dict for each image that could be read, by `COLUMNS`; score: the best class' probability.  Of multi-label
        data, true and predicted are all classes, separated by bars, and every class has a column with its probability.
    """
    several = predictions.targets is not None
    rows = []
    for row, probabilities in enumerate(predictions.probabilities):
        true = predictions.names(row, labels)
        found = named_answers(probabilities, labels, threshold if several else None)
        predicted = [name for name, _ in found]
        values = (
            split.describe(int(predictions.indices[row])),
            BETWEEN.join(true),
            BETWEEN.join(name for name in labels if name in predicted),
            float(probabilities.max()),
            set(predicted) == set(true),
        )
        each = zip(labels, probabilities.tolist(), strict=True) if several else ()
        rows.append(dict(zip(COLUMNS, values, strict=True)) | {f"p({name})": p for name, p in each})
    return rows


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes a table of `image_rows`, completely or not at all.

    Args:
        rows: dicts with equal keys, which are the columns.
        path: ends in .csv or .parquet.

    Raises:
        UserError: Another ending, or pyarrow is missing for .parquet.
    """
    columns = tuple(rows[0]) if rows else COLUMNS
    if path.suffix == ".csv":
        lines = io.StringIO(newline="")
        writer = csv.DictWriter(lines, columns)
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
        values = {name: [row[name] for row in rows] for name in columns}
        pyarrow.parquet.write_table(pyarrow.table(values), temporary)
