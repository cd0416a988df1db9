# SPDX-License-Identifier: Apache-2.0
"""The head of GoogLeNet: average pooling or a fully connected layer, dropout, auxiliary classifiers.

Szegedy et al. 2014, section 5: average pooling in place of fully connected layers "improved the top-1 accuracy by
about 0.6 %, however the use of dropout remained essential even after removing the fully connected layers".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, numbers
from inception_tf.experiments.loop import LoopSettings, cross_entropy, train_loop
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["make_network", "make_study"]

SIZE = 24  # pixels, height and width
BATCH = 32  # images of a step
LEARNING_RATE, MOMENTUM = 0.03, 0.9  # of stochastic gradient descent, as the paper's
DROPOUT = 0.4  # the paper's
AUX_WEIGHT = 0.3  # of the auxiliary classifier's loss, the paper's
FULLY_CONNECTED = 128  # units
POINTS = 5
# Filters of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool projection: an eighth of GoogLeNet's 3a, 3b, 4a, 4b.
MODULES = (
    (8, 12, 16, 2, 4, 4),
    (16, 16, 24, 4, 12, 8),
    (24, 12, 26, 2, 6, 8),
    (20, 14, 28, 3, 8, 8),
)


def make_study(setting: StudySettings) -> Study:
    """Two heads, each bare, with dropout, and with dropout and the auxiliary classifier; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    kinds = {
        f"{head}-{dropout}-{'aux' if aux else 'plain'}": (head, dropout, aux)
        for head in ("average", "connected")
        for dropout, aux in ((0.0, False), (DROPOUT, False), (DROPOUT, True))
    }
    trials = {
        name: functools.partial(_train, data, *kinds[kind], seed, setting.steps)
        for name, kind, seed in seeds_of(setting, kinds)
    }
    return Study(data.counts, trials, functools.partial(_summarize, setting, kinds), (8.5, 3.8))


def make_network(
    classes: int, *, head: str, dropout: float, auxiliary: bool, seed: int
) -> keras.Model:
    """Builds four inception modules of an eighth of GoogLeNet's width behind a convolution, without normalization.

    Args:
        classes: K.
        head: `average`, global average pooling, or `connected`, a layer of 128 units on the whole feature map.
        dropout: before the classifier, in [0, 1).
        auxiliary: whether a second classifier reads the second module.
        seed: of the initial weights and of dropout.

    Returns:
        A model (N, 24, 24, 3) float32 → logits (N, K), or a list of them and of the auxiliary ones.
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    x = _convolution(images, 24, 3, strides=2)
    for number, widths in enumerate(MODULES):
        if number == 2:
            x = keras.layers.MaxPooling2D(3, 2, "same")(x)
        x = _module(x, widths)
        if number == 1:
            middle = x
    x = keras.layers.MaxPooling2D(3, 2, "same")(x)
    x = _pooled(x) if head == "average" else _connected(x)
    outputs = keras.layers.Dense(classes)(keras.layers.Dropout(dropout)(x) if dropout else x)
    if not auxiliary:
        return keras.Model(images, outputs)
    middle = keras.layers.AveragePooling2D(5, 3)(middle)
    side = keras.layers.Dense(classes)(_connected(_convolution(middle, 16, 1)))
    return keras.Model(images, [outputs, side])


def _convolution(x: Any, filters: int, size: int, strides: int = 1) -> Any:
    return keras.layers.Conv2D(
        filters, size, strides, "same", activation="relu", kernel_initializer="he_normal"
    )(x)


def _module(x: Any, widths: tuple[int, ...]) -> Any:
    pooled = keras.layers.MaxPooling2D(3, 1, "same")(x)
    branches = [
        _convolution(x, widths[0], 1),
        _convolution(_convolution(x, widths[1], 1), widths[2], 3),
        _convolution(_convolution(x, widths[3], 1), widths[4], 5),
        _convolution(pooled, widths[5], 1),
    ]
    return keras.layers.Concatenate()(branches)


def _pooled(x: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D()(x)


def _connected(x: Any) -> Any:
    dense = keras.layers.Dense(FULLY_CONNECTED, "relu", kernel_initializer="he_normal")
    return dense(keras.layers.Flatten()(x))


def _train(data: Arrays, head: str, dropout: float, auxiliary: bool, seed: int, steps: int) -> dict:
    model = make_network(
        len(data.labels), head=head, dropout=dropout, auxiliary=auxiliary, seed=seed
    )

    def main(outputs):
        return outputs[0] if auxiliary else outputs

    def loss(outputs, classes):
        value = cross_entropy(main(outputs), classes)
        return value + AUX_WEIGHT * cross_entropy(outputs[1], classes) if auxiliary else value

    loop = LoopSettings(steps, BATCH, -(-steps // POINTS), seed, augment=True)
    optimizer = keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps), MOMENTUM
    )
    rows = train_loop(model, optimizer, data, loop, loss=loss, logits=main)
    return {"curve": rows, "parameters": model.count_params()}


def _summarize(
    setting: StudySettings, kinds: Mapping[str, tuple], results: Mapping[str, dict]
) -> Summary:
    rows: list[dict[str, Any]] = []
    for kind, (head, dropout, auxiliary) in kinds.items():
        found = [results[f"{kind}.{seed}"] for seed in range(setting.seeds)]
        row = {
            "head": "average pooling" if head == "average" else "fully connected",
            "dropout": dropout,
            "auxiliary": auxiliary,
            "parameters": found[0]["parameters"],
        }
        for key in ("test_accuracy", "test_loss", "loss"):
            row |= mean_and_spread(key, (one["curve"][-1][key] for one in found))
        rows.append(row)
    # Heads: average pooling, fully connected; then bare, with dropout, with dropout and auxiliary classifier.
    accuracy = numbers(rows, "test_accuracy").reshape(2, 3)
    gains = np.diff(accuracy, axis=1)
    holds = {
        "average pooling is better than the fully connected layer, in each of the three pairs": bool(
            (accuracy[0] > accuracy[1]).all()
        ),
        "dropout is better than none with average pooling": bool(gains[0, 0] > 0),
        "dropout is better than none with the fully connected layer": bool(gains[1, 0] > 0),
        "the auxiliary classifier is better than none with average pooling": bool(gains[0, 1] > 0),
        "the auxiliary classifier is better than none with the fully connected layer": bool(
            gains[1, 1] > 0
        ),
    }
    columns = (
        Column("head", "head"),
        Column("dropout", "dropout"),
        Column("auxiliary", "auxiliary classifier"),
        Column("parameters", "parameters in training"),
        Column("test_accuracy", "test accuracy", 1, percent=True),
        Column("test_loss", "test loss", 3),
        Column("loss", "training loss, with the auxiliary one", 3),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, rows))


def _draw(rows: list[dict], figure: Any) -> None:
    axes = figure.subplots()
    names = [
        f"{'dropout' if row['dropout'] else 'no dropout'}\n{'auxiliary classifier' if row['auxiliary'] else ''}"
        for row in rows
    ]
    accuracy, spread = numbers(rows, "test_accuracy"), numbers(rows, "test_accuracy_sd")
    half = len(rows) // 2
    for number, (name, marker) in enumerate((("average pooling", "o"), ("fully connected", "s"))):
        part = slice(number * half, (number + 1) * half)
        axes.errorbar(
            np.arange(half) + 0.1 * number,
            100 * accuracy[part],
            100 * np.nan_to_num(spread[part]),
            fmt=marker,
            color="0.0" if number == 0 else "0.5",
            capsize=4,
            label=name,
        )
    axes.set_xticks(np.arange(half), names[:half])
    finish_axes(axes, ylabel="test accuracy (%)", title="heads, mean and spread over seeds")
