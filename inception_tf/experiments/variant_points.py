# SPDX-License-Identifier: Apache-2.0
"""The points of a variant's curve: its validation accuracy, many times per epoch."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from inception_tf.data.skipped import BadImages
from inception_tf.experiments.variant_outcomes import POINTS, rows_to_csv
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.training.callbacks import learning_rate
from inception_tf.training.plan import TrainingPlan

__all__ = ["CurveRecorder", "validation_subset"]


def validation_subset(plan: TrainingPlan, max_images: int) -> tf.data.Dataset:
    """Takes evenly spaced validation images.

    Args:
        plan: of the variant's run.
        max_images: how many at most; all where there are fewer.

    Returns:
        Batches ((B, S, S, 3) float32 in [-1, 1], (B, K) one-hot).
    """
    stride = math.ceil(len(plan.validation) / max_images)
    part = plan.validation.take(np.arange(0, len(plan.validation), stride))
    bad = (plan.bad[0], BadImages(part, plan.config.data.max_bad, option=None))
    return dataclasses.replace(plan, validation=part, bad=bad).validation_data()


class CurveRecorder(keras.callbacks.Callback):
    """Writes `points.csv`: a row every `every` steps, and one after the last.

    Columns: step, val_top1 in [0, 1], val_loss, the cross-entropy in nats, and learning_rate.  A resumed run
    keeps the rows up to the step that it resumes from.

    Args:
        folder: the run folder.
        plan: of the run.
        every: steps between two rows.
        max_images: validation images to measure on, all where there are fewer.
    """

    def __init__(self, folder: Path, plan: TrainingPlan, *, every: int, max_images: int):
        super().__init__()
        self.file = folder / POINTS
        # 49 kB per image of 64 x 64 pixels.
        self.batches = validation_subset(plan, max_images).cache()
        self.every = every
        self.steps = plan.steps
        self.last = plan.config.training.epochs * plan.steps
        self.rows: list[dict] = []
        self.epoch_start = 0  # steps before this part of an epoch

    def on_train_begin(self, logs=None):
        if self.file.is_file():
            with open(self.file, encoding="utf-8", newline="") as file:
                self.rows = list(csv.DictReader(file))

    def on_epoch_begin(self, epoch, logs=None):
        # The rest of an interrupted epoch is shorter.
        self.epoch_start = (epoch + 1) * self.steps - self.params["steps"]
        self.rows = [row for row in self.rows if int(row["step"]) <= self.epoch_start]
        self._measure_if_due(self.epoch_start)  # a stop precedes the measurement of its step

    def on_train_batch_end(self, batch, logs=None):
        self._measure_if_due(self.epoch_start + batch + 1)

    def _measure_if_due(self, step: int) -> None:
        due = step == self.last or (step and step % self.every == 0)
        if not due or (self.rows and int(self.rows[-1]["step"]) == step):
            return
        # Not `evaluate`, which would reset the metric sums of the epoch.
        loss = keras.metrics.CategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.CategoricalAccuracy()
        for images, targets in self.batches:
            logits = self.model.predict_on_batch(images)["predictions"]
            loss.update_state(targets, logits)
            accuracy.update_state(targets, logits)
        self.rows.append(
            {
                "step": step,
                "val_top1": float(accuracy.result()),
                "val_loss": float(loss.result()),
                "learning_rate": learning_rate(self.model),
            }
        )
        atomic_write_text(self.file, rows_to_csv(self.rows))
