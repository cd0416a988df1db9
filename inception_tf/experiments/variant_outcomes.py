# SPDX-License-Identifier: Apache-2.0
"""The outcome of each variant, read from the files of its run: the points of Figure 2 and the rows of Figure 3."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from inception_tf.run_folder import Run

__all__ = [
    "BASELINE",
    "Curve",
    "ENDED",
    "PAPER",
    "POINTS",
    "chance_bound",
    "figure2_rows",
    "figure3_rows",
    "read_curve",
    "rows_to_csv",
]

BASELINE = "inception"
ENDED = "ended.json"  # in a variant's folder once it has finished or diverged
POINTS = "points.csv"  # in a variant's folder: its measurements

# Ioffe and Szegedy 2015, Figure 3: steps to 72.2 %, best accuracy.
PAPER_BASELINE_STEPS = 31.0e6
PAPER = {
    "inception": (PAPER_BASELINE_STEPS, 0.722),
    "bn-baseline": (13.3e6, 0.727),
    "bn-x5": (2.1e6, 0.730),
    "bn-x30": (2.7e6, 0.748),
    "bn-x5-sigmoid": (None, 0.698),
}
# Section 4.2.2 in words.
PAPER_SAYS = {
    "inception-x5": "the parameters reach machine infinity",
    "inception-sigmoid": "stays at chance",
}


@dataclass(frozen=True)
class Curve:
    """The validation accuracy of a variant over its steps."""

    name: str
    learning_rate: float  # of the first step
    points: tuple[dict[str, float], ...]  # the rows of its points.csv
    ended: dict | None  # its ended.json; None while it is under way

    @property
    def diverged_at(self) -> int | None:
        """The step at which loss or weights were no longer finite; None where they were."""
        return self.ended["diverged_at"] if self.ended else None

    @property
    def best(self) -> dict[str, float] | None:
        """The first row with the highest accuracy; None before the first measurement."""
        return max(self.points, key=lambda row: row["val_top1"], default=None)

    def steps_to(self, accuracy: float) -> int | None:
        """The number of steps after which an accuracy was first reached.

        Args:
            accuracy: in [0, 1].

        Returns:
            The steps, or None where the accuracy was never reached.
        """
        reached = (row["step"] for row in self.points if row["val_top1"] >= accuracy)
        return next(map(int, reached), None)

    def outcome(self, bound: float) -> str:
        """The outcome in a word or two.

        Args:
            bound: the accuracy that `chance_bound` gives.

        Returns:
            diverged, under way, at chance, learned or fell to chance.
        """
        if self.diverged_at is not None:
            return "diverged"
        best = self.best
        if self.ended is None or best is None:
            return "under way"
        if best["val_top1"] <= bound:
            return "at chance"
        return "learned" if self.points[-1]["val_top1"] > bound else "fell to chance"


def read_curve(run: Run) -> Curve | None:
    """Reads the curve of a variant.

    Args:
        run: its run folder.

    Returns:
        The curve, or None where the variant has not started.
    """
    if not run.config_file.is_file():
        return None
    points, ended = run.path / POINTS, run.path / ENDED
    rows = []
    if points.is_file():
        with open(points, encoding="utf-8", newline="") as file:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return Curve(
        run.path.name,
        run.config().optimizer.learning_rate,
        tuple(rows),
        json.loads(ended.read_text(encoding="utf-8")) if ended.is_file() else None,
    )


def chance_bound(classes: Sequence[int]) -> float:
    """The accuracy up to which a network counts as no better than chance.

    Always predicting the most frequent class scores its fraction p; the bound is three standard deviations
    of such a score, sqrt(p(1-p)/n), above it.

    Args:
        classes: the number of validation images of each class.

    Returns:
        An accuracy; above 1 where there are very few images.
    """
    total = sum(classes)
    fraction = max(classes) / total
    return fraction + 3 * math.sqrt(fraction * (1 - fraction) / total)


def figure2_rows(curves: Sequence[Curve]) -> list[dict]:
    """The points of Figure 2.

    Args:
        curves: of the variants that have started.

    Returns:
        A row per point: variant, step, accuracy in [0, 1], cross-entropy in nats, learning rate.
    """
    return [
        {"variant": curve.name, **row, "step": int(row["step"])}
        for curve in curves
        for row in curve.points
    ]


def figure3_rows(curves: Sequence[Curve], bound: float) -> list[dict]:
    """The rows of Figure 3, next to the paper's.

    `times_fewer_steps` is the number of steps of the baseline to its best accuracy, divided by the variant's
    to the same accuracy.

    Args:
        curves: of the variants that have started.
        bound: the accuracy that `chance_bound` gives.

    Returns:
        A row per variant: accuracies in [0, 1], None where there is no number.
    """
    baseline = next((c for c in curves if c.name == BASELINE), None)
    target = baseline.best if baseline else None
    return [_row(curve, target, bound) for curve in curves]


def _row(curve: Curve, target: dict[str, float] | None, bound: float) -> dict:
    steps = curve.steps_to(target["val_top1"]) if target else None
    paper_steps, paper_accuracy = PAPER.get(curve.name, (None, None))
    best = curve.best
    return {
        "variant": curve.name,
        "learning_rate": curve.learning_rate,
        "steps_to_baseline_best": steps,
        "times_fewer_steps": round(target["step"] / steps, 2) if target and steps else None,
        "best_accuracy": best["val_top1"] if best else None,
        "best_step": int(best["step"]) if best else None,
        "last_accuracy": curve.points[-1]["val_top1"] if curve.points else None,
        "steps": int(curve.points[-1]["step"]) if curve.points else 0,
        "outcome": curve.outcome(bound),
        "diverged_at": curve.diverged_at,
        "paper_steps": paper_steps,
        "paper_times_fewer_steps": round(PAPER_BASELINE_STEPS / paper_steps, 2)
        if paper_steps
        else None,
        "paper_best_accuracy": paper_accuracy,
        "paper_says": PAPER_SAYS.get(curve.name),
    }


def rows_to_csv(rows: Sequence[dict]) -> str:
    """Formats rows as CSV, with an empty field for None.

    Args:
        rows: at least one, all with the same keys.

    Returns:
        The text of the file.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
