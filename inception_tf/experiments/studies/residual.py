# SPDX-License-Identifier: Apache-2.0
"""Inception-v4's blocks against Inception-ResNet's at equal cost, and the scale of the residuals.

Szegedy et al. 2016, arXiv 1602.07261, sections 3.1 to 3.3.  Small networks with four blocks on a grid of 16x16, at a
usual and at a high learning rate.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras

from inception_tf.arch.counting import layer_costs, total
from inception_tf.arch.spec import AVG, HE, Conv, Network, Pool, Residual, Step, fork
from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, line_style, mean_curve
from inception_tf.experiments.loop import LoopSettings, train_loop
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of
from inception_tf.nn.network import build_model

__all__ = ["KINDS", "make_study", "small_network"]

SIZE = 32  # pixels, height and width
PLAIN = "v4"
# Section 3.3: "some scaling factors between 0.1 and 0.3".
SCALES = {"scale-1": 1.0, "scale-0.3": 0.3, "scale-0.1": 0.1}
KINDS = (PLAIN, *SCALES)
NAMES = {
    PLAIN: "Inception-v4's block",
    "scale-1": "residual, scale 1",
    "scale-0.3": "residual, scale 0.3",
    "scale-0.1": "residual, scale 0.1",
}
BLOCKS, WIDTH = 4, 48  # blocks, and channels between them
LEARNING_RATES = (0.05, 0.5)  # a usual one, and one that is too high without care
BATCH_SIZE, MOMENTUM = 64, 0.9
LEVELS = (0.3, 0.4)  # accuracies whose first step is reported
POINTS = 6  # measurements of a training


def make_study(setting: StudySettings) -> Study:
    """Each kind of block at both learning rates; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    kinds = {f"{kind}.{rate:g}": (kind, rate) for rate in LEARNING_RATES for kind in KINDS}
    trials = {
        name: functools.partial(_train, data, *kinds[kind], seed, setting.steps)
        for name, kind, seed in seeds_of(setting, kinds)
    }
    return Study(data.counts, trials, functools.partial(_summarize, setting))


def small_network(kind: str) -> Network:
    """Two convolutions and a pooling, four blocks, average pooling.

    The blocks have the branches of Inception-v4's and Inception-ResNet-v2's on their largest grid, narrower, and
    cost the same: a residual block spends a third of it on the 1x1 convolution before the sum.

    Args:
        kind: one of `KINDS`.

    Returns:
        Its table.
    """
    return Network(
        name=f"residual_{kind.replace('-', '_').replace('.', '_')}",
        source="Szegedy et al. 2016, arXiv 1602.07261, Figures 4 and 16",
        backbone=(
            ("stem_1", Conv(16, 3)),
            ("pool", Pool("max", 3, 2)),
            ("stem_2", Conv(WIDTH)),
            *((f"block_{number}", _block(kind)) for number in range(BLOCKS)),
        ),
        size=SIZE,
        min_size=8,
        dropout=0.0,
        initializer=HE,
    )


def _block(kind: str) -> Step:
    # fmt: off
    if kind == PLAIN:
        return fork((Conv(12),),
                    (Conv(8), Conv(12, 3)),
                    (Conv(8), Conv(12, 3), Conv(12, 3)),
                    (AVG, Conv(12)))
    branches = ((Conv(8),),
                (Conv(8), Conv(8, 3)),
                (Conv(8), Conv(10, 3), Conv(12, 3)))
    # fmt: on
    return Residual(branches, SCALES[kind])


def _train(data: Arrays, kind: str, rate: float, seed: int, steps: int) -> dict:
    keras.utils.set_random_seed(seed)
    network = small_network(kind)
    model = build_model(
        network,
        input_shape=(SIZE, SIZE, 3),
        classes=len(data.labels),
        classifier_activation=None,
        batch_norm_momentum=0.9,
    )
    loop = LoopSettings(steps, BATCH_SIZE, max(1, steps // POINTS), seed, augment=True)
    optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM)
    counted = layer_costs(network, SIZE, classes=len(data.labels))
    return {
        "curve": train_loop(model, optimizer, data, loop),
        "parameters": total(counted, "params"),
        "multiply_adds": total(counted, "multiply_adds"),
    }


def _summarize(setting: StudySettings, results: Mapping[str, dict]) -> Summary:
    found = {
        (kind, rate): [results[f"{kind}.{rate:g}.{seed}"] for seed in range(setting.seeds)]
        for rate in LEARNING_RATES
        for kind in KINDS
    }
    rows = [_row(kind, rate, trials) for (kind, rate), trials in found.items()]
    by_kind = dict(zip(found, rows, strict=True))
    usual, high = LEARNING_RATES

    def best(rate, key):
        """The best of the residual networks."""
        return max(by_kind[kind, rate][key] or 0 for kind in SCALES)

    def sooner(kind):
        level = f"steps_{LEVELS[0]:g}"
        steps, plain = by_kind[kind, usual][level], by_kind[PLAIN, usual][level]
        return steps is not None and (plain is None or steps < plain)

    holds = {
        f"a residual network is at {LEVELS[0]:.0%} in fewer steps than one of v4's blocks": any(
            map(sooner, SCALES)
        ),
        "in the end the best of the residual networks and that of v4's blocks are within two points": (
            abs(best(usual, "accuracy") - (by_kind[PLAIN, usual]["accuracy"] or 0)) < 0.02
        ),
        "at the high learning rate a scale of 0.1 or 0.3 is more accurate than 1": (
            max(by_kind[kind, high]["accuracy"] or 0 for kind in ("scale-0.1", "scale-0.3"))
            > (by_kind["scale-1", high]["accuracy"] or 0)
        ),
        "at the high learning rate some residual network of scale 1 is no longer finite": (
            by_kind["scale-1", high]["diverged"] > 0
        ),
    }
    columns = (
        Column("learning_rate", "learning rate", 2),
        Column("kind", "blocks"),
        Column("multiply_adds", "multiply-adds (M)", 2),
        *(Column(f"steps_{level:g}", f"steps to {level:.0%}", 0) for level in LEVELS),
        Column("accuracy", "accuracy at the end", 1, percent=True),
        Column("diverged", "trainings that became infinite"),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, found))


def _row(kind: str, rate: float, trials: list[dict]) -> dict:
    curves = [trial["curve"] for trial in trials]
    row: dict[str, Any] = {
        "learning_rate": rate,
        "kind": NAMES[kind],
        "multiply_adds": trials[0]["multiply_adds"] / 1e6,
        "parameters": trials[0]["parameters"],
        "diverged": sum(curve[-1]["loss"] is None for curve in curves),
    }
    for level in LEVELS:
        row |= mean_and_spread(f"steps_{level:g}", (_steps_to(curve, level) for curve in curves))
    return row | mean_and_spread("accuracy", (curve[-1]["test_accuracy"] for curve in curves))


def _steps_to(curve: list[dict], level: float) -> int | None:
    """The steps after which an accuracy was first measured."""
    return next((row["step"] for row in curve if (row["test_accuracy"] or 0) >= level), None)


def _draw(found: Mapping[tuple[str, float], list[dict]], figure: Any) -> None:
    for axes, rate in zip(figure.subplots(1, 2, sharey=True), LEARNING_RATES, strict=True):
        for number, kind in enumerate(KINDS):
            curves = [trial["curve"] for trial in found[kind, rate]]
            steps, means = mean_curve(curves, "test_accuracy")
            percent = [100 * mean for mean in means]
            axes.plot(steps, percent, label=NAMES[kind], **line_style(number))
        finish_axes(
            axes,
            xlabel="steps of 64 images",
            ylabel="test accuracy (%)",
            title=f"learning rate {rate:g}",
        )
