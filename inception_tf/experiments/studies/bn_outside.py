# SPDX-License-Identifier: Apache-2.0
"""Normalization outside of the gradient step: Ioffe and Szegedy 2015, section 2.

One layer, exactly as in the text: x = a u + b on a fixed input u, normalized over the training set, a squared error
behind it, and gradient descent on a and b that ignores how mean and deviation depend on them.  Then a small network
in which every hidden layer is normalized so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, line_style, mean_curve
from inception_tf.experiments.loop import LoopSettings, train_loop
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of

__all__ = ["Normalized", "make_study", "train_layer"]

SIZE = 8  # pixels, height and width
OUTSIDE_MEAN, OUTSIDE_BOTH, INSIDE, NONE = "outside-mean", "outside-both", "inside", "none"
MODES = (OUTSIDE_MEAN, OUTSIDE_BOTH, INSIDE, NONE)
NAMES = {
    OUTSIDE_MEAN: "mean outside of the gradient",
    OUTSIDE_BOTH: "mean and deviation outside",
    INSIDE: "both inside (batch normalization)",
    NONE: "no normalization",
}
LEARNING_RATES = (0.3, 1.0, 3.0)
HIDDEN, UNITS = 2, 32
EPSILON = 1e-3
POINTS = 50  # measurements of a training
START = 20  # steps that are measured one by one at the highest learning rate: it is over by then
LAYER_RATE = 0.125  # a power of two, so that the layer's arithmetic is exact


class Normalized(keras.layers.Layer):
    """Normalizes by the batch's statistics, (N, C) → (N, C), with or without their part in the gradient.

    Args:
        mode: one of `MODES`.
    """

    def __init__(self, mode: str):
        super().__init__()
        self.mode = mode

    def call(self, inputs):
        mean = keras.ops.mean(inputs, axis=0)
        deviation = keras.ops.sqrt(keras.ops.var(inputs, axis=0) + EPSILON)
        if self.mode == NONE:
            return inputs
        if self.mode == OUTSIDE_MEAN:
            return inputs - keras.ops.stop_gradient(mean)
        if self.mode == OUTSIDE_BOTH:
            mean, deviation = keras.ops.stop_gradient(mean), keras.ops.stop_gradient(deviation)
        return (inputs - mean) / deviation


def make_study(setting: StudySettings) -> Study:
    """One layer in three modes, then the network in four, step by step and at three learning rates; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    trials: dict[str, Any] = {
        f"layer.{mode}": functools.partial(train_layer, data, mode, setting.steps)
        for mode in (OUTSIDE_MEAN, OUTSIDE_BOTH, INSIDE)
    }
    for mode in MODES:
        trials[f"start.{mode}"] = functools.partial(
            _train_network, data, mode, LEARNING_RATES[-1], 0, min(START, setting.steps)
        )
    kinds = {f"{mode}.{rate:g}": (mode, rate) for rate in LEARNING_RATES for mode in MODES}
    for name, kind, seed in seeds_of(setting, kinds):
        trials[name] = functools.partial(_train_network, data, *kinds[kind], seed, setting.steps)
    return Study(data.counts, trials, functools.partial(_summarize, setting))


def train_layer(data: Arrays, mode: str, steps: int) -> dict:
    """Trains a and b of x = a u + b, ten units on fixed inputs, by gradient descent on the whole training set.

    The inputs are sums of pixels in units of a power of two, the targets one-hot, the number of images is a power
    of two: with the mean outside, every operation up to the normalized values is exact in float64.

    Args:
        data: the images; the largest power of two of them is used.
        mode: one of `MODES`; the mean alone is subtracted in `OUTSIDE_MEAN`, where a is not trained.
        steps: of the training.

    Returns:
        `step`, `loss`, `b`, the largest magnitude of a bias, and `a`, the smallest of a scale, each a list.
    """
    count = 1 << (len(data.images).bit_length() - 1)
    sums = data.images[:count].astype(np.int64).sum(axis=-1).reshape(count, -1)
    weights = np.random.default_rng(0).integers(-1, 2, (sums.shape[1], 10))
    inputs = (sums @ weights).astype(np.float64) / (1 << 14)
    targets = np.eye(10)[data.classes[:count] % 10]
    scale, bias = np.ones(10), np.zeros(10)
    found: dict[str, list] = {"step": [], "loss": [], "b": [], "a": []}
    for step in range(steps + 1):
        x = scale * inputs + bias
        centered = x - x.mean(axis=0)
        deviation = np.sqrt((centered**2).mean(axis=0)) if mode != OUTSIDE_MEAN else 1.0
        normalized = centered / deviation
        errors = normalized - targets
        loss = 0.5 * (errors**2).sum(axis=1).mean()
        values = (step, loss, np.abs(bias).max(), np.abs(scale).min())
        for key, value in zip(found, values, strict=True):
            found[key].append(float(value) if key != "step" else value)
        gradient = errors / deviation
        if mode == INSIDE:
            gradient = (
                errors - errors.mean(axis=0) - normalized * (errors * normalized).mean(axis=0)
            ) / deviation
        bias = bias - LAYER_RATE * gradient.mean(axis=0)
        if mode != OUTSIDE_MEAN:
            scale = scale - LAYER_RATE * (gradient * inputs).mean(axis=0)
    return found


def _train_network(data: Arrays, mode: str, rate: float, seed: int, steps: int) -> dict:
    keras.utils.set_random_seed(seed)
    images = x = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.ops.mean(x, axis=-1))
    hidden = []
    for _ in range(HIDDEN):
        hidden.append(keras.layers.Dense(UNITS, kernel_initializer="he_normal"))
        x = keras.layers.Activation("relu")(Normalized(mode)(hidden[-1](x)))
    model = keras.Model(images, keras.layers.Dense(len(data.labels))(x))

    def measure():
        norms = [np.abs(keras.ops.convert_to_numpy(layer.bias)).max() for layer in hidden]
        sizes = [np.linalg.norm(keras.ops.convert_to_numpy(layer.kernel)) for layer in hidden]
        return {"b": _finite(max(norms)), "w": _finite(max(sizes))}

    loop = LoopSettings(steps, 60, max(1, steps // POINTS), seed)
    rows = train_loop(model, keras.optimizers.SGD(rate), data, loop, measure=measure)
    return {"curve": rows}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    rows = [
        _row(mode, rate, [results[f"{mode}.{rate:g}.{n}"]["curve"] for n in range(setting.seeds)])
        for rate in LEARNING_RATES
        for mode in MODES
    ]
    by_kind = {(row["mode"], row["learning_rate"]): row for row in rows}
    mean_layer, both_layer, inside_layer = (
        results[f"layer.{mode}"] for mode in (OUTSIDE_MEAN, OUTSIDE_BOTH, INSIDE)
    )
    growth = np.diff(mean_layer["b"])
    outside = [by_kind[NAMES[m], r] for r in LEARNING_RATES for m in (OUTSIDE_MEAN, OUTSIDE_BOTH)]
    holds = {
        "in one layer with the mean outside, b grows at every step and by the same amount, and the loss keeps its"
        " value to the last bit": bool(
            (growth > 0).all() and len(set(growth)) == 1 and len(set(mean_layer["loss"])) == 1
        ),
        "with the mean inside, b stays at 0 to rounding": max(inside_layer["b"]) < 1e-9,
        "with the deviation outside too it is worse: a scale runs to 0, the division by its deviation becomes one by"
        " almost 0, and b grows more than ten times as far": (
            min(both_layer["a"]) < both_layer["a"][0]
            and both_layer["b"][-1] > 10 * mean_layer["b"][-1]
        ),
        "the network's biases are larger outside than inside, in every training": all(
            (row["b"] or np.inf) > (by_kind[NAMES[INSIDE], row["learning_rate"]]["b"] or 0)
            for row in outside
        ),
        "at some learning rate a network with normalization outside is no longer finite, and that with batch"
        " normalization learns": any(
            row["diverged"] and not by_kind[NAMES[INSIDE], row["learning_rate"]]["diverged"]
            for row in outside
        ),
    }
    columns = (
        Column("learning_rate", "learning rate"),
        Column("mode", "normalization"),
        Column("loss", "training loss at the end", 3),
        Column("b", "largest bias", 1, scientific=True),
        Column("w", "largest norm of weights", 0),
        Column("diverged", "trainings that became infinite"),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, results))


def _row(mode: str, rate: float, curves: list[list[dict]]) -> dict:
    ends = [curve[-1] for curve in curves]
    numbers = {key: mean_and_spread(key, (end[key] for end in ends)) for key in ("loss", "b", "w")}
    return {
        "learning_rate": rate,
        "mode": NAMES[mode],
        **{key: value for pair in numbers.values() for key, value in pair.items()},
        "diverged": sum(end["loss"] is None for end in ends),
    }


def _draw(results: Mapping[str, dict], figure: Any) -> None:
    layer, biases, losses = figure.subplots(1, 3)
    for number, mode in enumerate((OUTSIDE_MEAN, OUTSIDE_BOTH, INSIDE)):
        found = results[f"layer.{mode}"]
        look = line_style(number, len(found["step"]))
        layer.plot(found["step"], found["b"], label=NAMES[mode], **look)
    finish_axes(
        layer,
        xlabel="steps",
        ylabel="largest bias b",
        yscale="symlog",
        title="(a) one layer",
    )
    rate = LEARNING_RATES[-1]
    for number, mode in enumerate(MODES):
        curves = [results[f"start.{mode}"]["curve"]]
        for axes, key in ((biases, "b"), (losses, "loss")):
            steps, means = mean_curve(curves, key)
            axes.plot(steps, means, label=NAMES[mode], **line_style(number, len(steps)))
    finish_axes(
        biases,
        xlabel="steps",
        ylabel="largest bias",
        yscale="symlog",
        title=f"(b) network, learning rate {rate:g}, its start",
    )
    finish_axes(
        losses,
        xlabel="steps",
        ylabel="training loss (nats)",
        yscale="log",
        title=f"(c) network, learning rate {rate:g}, its start",
    )
