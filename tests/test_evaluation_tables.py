# SPDX-License-Identifier: Apache-2.0
"""Tables of an evaluation, against scikit-learn's figures."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow.parquet
import pytest
from sklearn.metrics import precision_recall_fscore_support

from inception_tf.data.sources.splits import Split
from inception_tf.errors import UserError
from inception_tf.evaluation.metrics import Predictions
from inception_tf.evaluation.tables import class_metrics, image_rows, write_rows

LABELS = ("cat", "dog", "emu", "fox")
SPLIT = Split(
    np.array([f"photos/{name}.jpg" for name in ("a", "b, c", "caf\u00e9", "d", "e")], object),
    np.array([0, 0, 1, 2, 1]),
)
SCORES = np.array([[6, 4, 0, 0], [1, 9, 0, 0], [0, 7, 3, 0], [2, 5, 3, 0]], np.float32) / 10
FOUND = Predictions(SCORES, np.array([0, 0, 1, 2]), np.array([0, 1, 2, 3]))


def test_precision_recall_and_f1_are_scikit_learns():
    found = class_metrics(FOUND, LABELS)
    best = FOUND.probabilities.argmax(1)
    expected = precision_recall_fscore_support(
        FOUND.classes, best, labels=range(4), zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        np.testing.assert_allclose([one[name] for one in found], values)
    assert [one["predicted"] for one in found] == [1, 3, 0, 0]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_each_image_has_a_row_with_its_path(tmp_path, ending):
    # Of a split in another order, without its second image, which could not be read.
    found = Predictions(SCORES, np.array([1, 2, 1, 0]), np.array([4, 3, 2, 0]))
    path = tmp_path / f"rows.{ending}"
    write_rows(image_rows(found, SPLIT, LABELS), path)
    if ending == "csv":
        with open(path, encoding="utf-8", newline="") as file:
            rows = [{**row, "score": float(row["score"])} for row in csv.DictReader(file)]
        right = [row["correct"] for row in rows]
        assert right == ["False", "False", "True", "False"]
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        assert [row["correct"] for row in rows] == [False, False, True, False]
    paths = ["photos/e.jpg", "photos/d.jpg", "photos/caf\u00e9.jpg", "photos/a.jpg"]
    assert [row["path"] for row in rows] == paths
    assert [row["true"] for row in rows] == ["dog", "emu", "dog", "cat"]
    assert [row["predicted"] for row in rows] == ["cat", "dog", "dog", "dog"]
    assert [row["score"] for row in rows] == pytest.approx([0.6, 0.9, 0.7, 0.5])


def test_another_ending_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="ends in neither .csv nor .parquet"):
        write_rows([], tmp_path / "rows.txt")
