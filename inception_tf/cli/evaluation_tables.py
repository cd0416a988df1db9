# SPDX-License-Identifier: Apache-2.0
"""What `inception-tf evaluate` prints and writes: scores in sentences, tables, and the JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inception_tf.classifiers import Classifier
    from inception_tf.data.skipped import BadImages
    from inception_tf.evaluation.metrics import Predictions

__all__ = [
    "accuracy_lines",
    "class_table",
    "count_lines",
    "ensemble_table",
    "multi_label_class_table",
    "multi_label_lines",
    "write_scores",
]

MATRIX = "\x00matrix"  # stands for it while the rest is written
DECISIONS = ("recall", "precision", "f1")  # recall of a class is its top-1 accuracy
TRIVIAL = 5  # classes, among the best five of which every answer is right
COLUMNS = ("model", "resolution", "crops", "models", "top-1 error", "top-5 error")


def accuracy_lines(result: dict) -> list[str]:
    lines = []
    for name in ("top1", "top5")[: 1 if len(result["classes"]) <= TRIVIAL else 2]:
        low, high = result[f"{name}_interval"]
        lines.append(
            f"{name}: {result[name]:.2%} accuracy, {1 - result[name]:.2%} error"
            f" (95 %: {1 - high:.2%} to {1 - low:.2%})"
        )
    lines.append(f"calibration error: {result['expected_calibration_error']:.2%}")
    return lines


def multi_label_lines(result: dict) -> list[str]:
    """The scores of multi-label data."""
    shown = sum(one["images"] > 0 for one in result["classes"])
    none = len(result["classes"]) - shown
    more = f" ({none} more are on no image)" if none else ""
    mean = "-" if result["map"] is None else f"{result['map']:.2%}"
    decided = ", ".join(f"{name} {result[name]:.2%}" for name in ("precision", "recall", "f1"))
    return [
        f"mean average precision: {mean} over {shown} classes{more}",
        f"at threshold {result['threshold']:g}: {decided}; all classes right on {result['exact']:.2%} of the images",
    ]


def count_lines(result: dict, bad: BadImages) -> list[str]:
    lines = [f"images: {result['images']}, skipped: {bad.count}"]
    return lines + [f"  {name}: {reason}" for name, reason in sorted(bad.reasons.items())]


def ensemble_table(classifiers: list[Classifier], results: list[dict], crops: int) -> str:
    """Each network alone and the ensemble, in the form of the documents' Figure 4."""
    from inception_tf.cli.render import table

    names = [(m.network, f"{m.preprocessing.size}x{m.preprocessing.size}", 1) for m in classifiers]
    sizes = sorted({size for _, size, _ in names})
    names.append(("ensemble", ", ".join(sizes), len(classifiers)))
    columns: tuple[str, ...]
    scores: list[tuple[str, ...]]
    if "map" in results[0]:
        columns = (*COLUMNS[:4], "mean average precision")
        scores = [("-" if r["map"] is None else f"{r['map']:.2%}",) for r in results]
    else:
        columns = COLUMNS
        scores = [(f"{1 - r['top1']:.2%}", f"{1 - r['top5']:.2%}") for r in results]
    rows = [
        (name, size, crops, count, *score)
        for (name, size, count), score in zip(names, scores, strict=True)
    ]
    return table(columns, rows)


def multi_label_class_table(classes: list[dict]) -> str:
    from inception_tf.cli.render import table

    names = ("average_precision", *DECISIONS)
    rows = [
        (
            one["name"],
            one["images"],
            *("-" if one[name] is None else f"{one[name]:.2%}" for name in names),
        )
        for one in classes
    ]
    return table(("class", "images", "average precision", *DECISIONS), rows)


def class_table(predictions: Predictions, labels: list[str]) -> str:
    from inception_tf.cli.render import table
    from inception_tf.evaluation.metrics import per_class_accuracy
    from inception_tf.evaluation.tables import class_metrics

    top5 = {number: five for number, _, _, five in per_class_accuracy(predictions)}
    rows = [
        (
            *(one["name"], one["images"], *(f"{one[name]:.2%}" for name in DECISIONS)),
            *([f"{top5[number]:.2%}" if number in top5 else "-"] if len(labels) > TRIVIAL else []),
        )
        for number, one in enumerate(class_metrics(predictions, labels))
        if one["images"] or one["predicted"]
    ]
    return table(
        ("class", "images", *DECISIONS, *(["top-5"] if len(labels) > TRIVIAL else [])), rows
    )


def write_scores(
    file: str, classifiers: list[Classifier], results: list[dict], crops: int, bad: BadImages
) -> None:
    from inception_tf.host.atomic_io import atomic_write_text

    singles = [
        {"name": m.name, "model": m.network, "size": m.preprocessing.size, **result}
        for m, result in zip(classifiers, results, strict=False)
    ]
    content = results[-1] | {
        "skipped": bad.count,
        "skipped_images": bad.reasons,
        "crops": crops,
        "members": singles,
    }
    # The matrix, a line for each row: a line for each number would be a million with ImageNet's classes.
    matrix = ",\n    ".join(map(json.dumps, content["confusion"]))
    text = json.dumps(content | {"confusion": MATRIX}, indent=2)
    atomic_write_text(Path(file), text.replace(json.dumps(MATRIX), f"[\n    {matrix}\n  ]") + "\n")
