# SPDX-License-Identifier: Apache-2.0
"""The regularizing effect of the batch: test accuracy against the number of images that share their statistics.

The size of a batch changes two things: the noise of the gradient and that of the statistics.  The first kind of
trial changes the second alone, with steps of 64 images whose statistics are computed over groups of m; the other
changes both, at equal images and with a learning rate proportional to the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, numbers, plot_rows
from inception_tf.experiments.loop import LoopSettings, predicted_logits, scores, train_loop
from inception_tf.experiments.networks import small_convnet
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["GroupedBatchNormalization", "make_study"]

SIZE = 32  # pixels, height and width
BATCH = 64  # images of a step
GROUPS = (2, 4, 16, 64)  # images that share their statistics
BATCHES = (16, 256)  # of the other kind; 64 is in the first
LEARNING_RATE = 0.1  # at 64 images per step
MOMENTUM, EPSILON = 0.95, 1e-3  # of the moving statistics; added to a variance
SCORED = 2000  # training images that the gap is measured on
POINTS = 5


class GroupedBatchNormalization(keras.layers.Layer):
    """Batch normalization whose statistics are those of `group` neighboring images of a batch.

    In inference it uses moving averages of the groups' means and variances, as Algorithm 2 has them.

    Args:
        group: a divisor of the batch size.
    """

    def __init__(self, group: int):
        super().__init__()
        self.group = group

    def build(self, shape):
        channels = shape[-1:]
        self.gamma = self.add_weight(shape=channels, initializer="ones")
        self.beta = self.add_weight(shape=channels, initializer="zeros")
        self.mean = self.add_weight(shape=channels, initializer="zeros", trainable=False)
        self.variance = self.add_weight(shape=channels, initializer="ones", trainable=False)

    def call(self, inputs, training=False):
        if not training:
            return self._normalized(inputs, self.mean, self.variance)
        shape = keras.ops.shape(inputs)
        groups = keras.ops.reshape(inputs, (-1, self.group, *shape[1:]))
        axes = tuple(range(1, len(shape)))
        mean = keras.ops.mean(groups, axis=axes, keepdims=True)
        variance = keras.ops.var(groups, axis=axes, keepdims=True)
        for variable, value in ((self.mean, mean), (self.variance, variance)):
            new = keras.ops.mean(value, axis=tuple(range(len(shape))))
            variable.assign(MOMENTUM * variable + (1 - MOMENTUM) * new)
        return keras.ops.reshape(self._normalized(groups, mean, variance), shape)

    def _normalized(self, x, mean, variance):
        return (x - mean) / keras.ops.sqrt(variance + EPSILON) * self.gamma + self.beta


def make_study(setting: StudySettings) -> Study:
    """A network for each m and each batch size, `steps` of 64 images; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    kinds = {f"statistics-{m}": (BATCH, m) for m in GROUPS}
    kinds |= {f"batch-{m}": (m, m) for m in BATCHES}
    trials = {
        name: functools.partial(_train, data, *kinds[kind], seed, setting.steps)
        for name, kind, seed in seeds_of(setting, kinds)
    }
    return Study(data.counts, trials, functools.partial(_summarize, setting, kinds), (8.5, 3.8))


def _train(data: Arrays, batch: int, group: int, seed: int, steps: int) -> dict:
    model = small_convnet(
        SIZE,
        len(data.labels),
        seed=seed,
        normalization=lambda: GroupedBatchNormalization(group),
    )
    steps = max(1, steps * BATCH // batch)
    predict = predicted_logits(model)

    def measure():
        found = scores(predict(data.images[:SCORED]), data.classes[:SCORED])
        return {key.replace("test", "train"): value for key, value in found.items()}

    loop = LoopSettings(steps, batch, -(-steps // POINTS), seed)
    optimizer = keras.optimizers.SGD(LEARNING_RATE * batch / BATCH)
    return {"curve": train_loop(model, optimizer, data, loop, measure=measure)}


def _summarize(
    setting: StudySettings, kinds: Mapping[str, tuple[int, int]], results: Mapping[str, dict]
) -> Summary:
    rows = []
    for kind, (batch, group) in kinds.items():
        ends = [results[f"{kind}.{seed}"]["curve"][-1] for seed in range(setting.seeds)]
        row: dict[str, Any] = {"batch": batch, "group": group}
        for key in ("test_accuracy", "train_accuracy", "loss", "test_loss"):
            row |= mean_and_spread(key, (end[key] for end in ends))
        gaps = (end["train_accuracy"] - end["test_accuracy"] for end in ends)
        rows.append(row | mean_and_spread("gap", gaps))
    groups = rows[: len(GROUPS)]
    loss, gap, accuracy = (numbers(groups, key) for key in ("loss", "gap", "test_accuracy"))
    holds = {
        "the larger m, the lower the training loss": bool((np.diff(loss) < 0).all()),
        "the larger m, the larger the gap between training and test accuracy: the statistics' noise regularizes, and"
        " less so in larger batches": bool((np.diff(gap) > 0).all()),
        f"the test accuracy is highest below the largest m, {GROUPS[-1]}": int(
            np.argmax(np.nan_to_num(accuracy))
        )
        < len(GROUPS) - 1,
    }
    columns = (
        Column("batch", "images per step"),
        Column("group", "m, images that share statistics"),
        Column("test_accuracy", "test accuracy", 1, percent=True),
        Column("train_accuracy", "training accuracy", 1, percent=True),
        Column("gap", "gap", 1, percent=True),
        Column("loss", "training loss", 3),
        Column("test_loss", "test loss", 3),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, rows))


def _draw(rows: list[dict], figure: Any) -> None:
    accuracies, losses = figure.subplots(1, 2)
    groups, batches = rows[: len(GROUPS)], [*rows[len(GROUPS) :], rows[len(GROUPS) - 1]]
    batches.sort(key=lambda row: row["batch"])
    for axes, pairs in (
        (accuracies, (("test_accuracy", "test"), ("train_accuracy", "training"))),
        (losses, (("test_loss", "test"), ("loss", "training, with the batch's statistics"))),
    ):
        factor = 100 if axes is accuracies else 1
        for number, (key, name) in enumerate(pairs):
            for shift, (points, what) in enumerate(
                ((groups, "statistics of m"), (batches, "batch of m"))
            ):
                line = 2 * number + shift
                label = f"{name}, {what}"
                plot_rows(axes, points, "group", key, line, label=label, factor=factor)
    finish_axes(accuracies, xlabel="m", ylabel="accuracy (%)", xscale="log", title="(a) accuracy")
    finish_axes(losses, xlabel="m", ylabel="cross-entropy (nats)", xscale="log", title="(b) loss")
