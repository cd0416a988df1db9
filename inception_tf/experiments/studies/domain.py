# SPDX-License-Identifier: Apache-2.0
"""Adaptation to other images by new population statistics alone: the outlook of Ioffe and Szegedy 2015, section 5."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, numbers
from inception_tf.experiments.loop import (
    LoopSettings,
    predicted_logits,
    scores,
    to_unit,
    train_loop,
)
from inception_tf.experiments.networks import small_convnet
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread
from inception_tf.training.optim.recalibrate import recalibrate

__all__ = ["DOMAINS", "make_study"]

SIZE = 32  # pixels, height and width
BATCH = 64  # images of a step
LEARNING_RATE = 0.1
MOMENTUM = 0.95  # of the moving statistics
UNLABELLED = 2000  # images of the other domain that the statistics are computed on
RECOLORING = np.array([[0.2, 0.2, 0.6], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])  # rows: new channels


def _blurred(images: np.ndarray) -> np.ndarray:
    """Means over 5x5 pixels, the border repeated."""
    padded = np.pad(images.astype(np.float32), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    return np.rint(windows.mean(axis=(-2, -1))).astype(np.uint8)


# From (N, S, S, 3) uint8 to the same.
DOMAINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as trained": lambda images: images,
    "inverted": lambda images: 255 - images,
    "blurred": _blurred,
    "recolored": lambda images: np.rint(images @ RECOLORING.T).astype(np.uint8),
    "low contrast": lambda images: (images // 4 + 160).astype(np.uint8),
}


def make_study(setting: StudySettings) -> Study:
    """A network for each seed, evaluated on each domain before and after; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    trials = {
        f"network.{seed}": functools.partial(_trial, data, seed, setting.steps)
        for seed in range(setting.seeds)
    }
    return Study(data.counts, trials, functools.partial(_summarize, setting), (7.5, 3.8))


def _trial(data: Arrays, seed: int, steps: int) -> dict:
    model = small_convnet(
        SIZE,
        len(data.labels),
        seed=seed,
        normalization=lambda: keras.layers.BatchNormalization(momentum=MOMENTUM),
    )
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    train_loop(model, optimizer, data, LoopSettings(steps, BATCH, steps, seed))
    predict = predicted_logits(model)

    def accuracy(change):
        return scores(predict(change(data.test_images)), data.test_classes)["test_accuracy"]

    before = {name: accuracy(change) for name, change in DOMAINS.items()}
    after = {}
    for name, change in DOMAINS.items():
        unlabelled = to_unit(change(data.images[:UNLABELLED]))
        batches = [unlabelled[n : n + BATCH] for n in range(0, len(unlabelled), BATCH)]
        recalibrate(model, batches, len(batches))
        after[name] = accuracy(change)
    return {"before": before, "after": after}


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    found = [results[f"network.{seed}"] for seed in range(setting.seeds)]
    rows: list[dict[str, Any]] = []
    for name in DOMAINS:
        row: dict[str, Any] = {"domain": name}
        for key in ("before", "after"):
            row |= mean_and_spread(key, (one[key][name] for one in found))
        gains = (one["after"][name] - one["before"][name] for one in found)
        rows.append(row | mean_and_spread("gain", gains))
    gain, spread = numbers(rows, "gain"), np.nan_to_num(numbers(rows, "gain_sd"))
    holds = {
        f"new statistics raise the accuracy on {name} images, by more than the spread over seeds": bool(
            gain[number] > spread[number]
        )
        for number, name in enumerate(DOMAINS)
        if number
    }
    columns = (
        Column("domain", "test images"),
        Column("before", "statistics of training", 1, percent=True),
        Column("after", "statistics of unlabelled images of the domain", 1, percent=True),
        Column("gain", "gain", 1, percent=True),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, rows))


def _draw(rows: list[dict], figure: Any) -> None:
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, key, name, look in (
        (-0.2, "before", "statistics of training", {"color": "0.85", "hatch": "//"}),
        (0.2, "after", "recalibrated on unlabelled images", {"color": "0.4"}),
    ):
        axes.bar(
            places + shift,
            100 * numbers(rows, key),
            0.4,
            yerr=100 * np.nan_to_num(numbers(rows, f"{key}_sd")),
            capsize=3,
            edgecolor="0.0",
            label=name,
            **look,
        )
    axes.set_xticks(places, [row["domain"] for row in rows])
    finish_axes(axes, ylabel="test accuracy (%)", title="the same weights, other statistics")
