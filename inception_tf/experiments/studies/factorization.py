# SPDX-License-Identifier: Apache-2.0
"""Large convolutions and what replaces them: parameters, multiply-adds, time by grid, accuracy at equal cost.

Szegedy et al. 2015, arXiv 1512.00567, sections 3.1 and 3.2.  Two small networks differ in where the replaced
convolutions are: on a coarse grid of 16x16, in the range for which the paper recommends 1xn and nx1, or at the
start, on the 32x32 of the images.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inception_tf.arch.counting import layer_costs, total
from inception_tf.arch.spec import HE, Branch, Conv, Network, Pool
from inception_tf.experiments.arrays import Arrays, load_arrays
from inception_tf.experiments.catalog import StudySettings
from inception_tf.experiments.lines import finish_axes, line_style
from inception_tf.experiments.loop import LoopSettings, train_loop
from inception_tf.experiments.page import Column
from inception_tf.experiments.study import Study, Summary, mean_and_spread, seeds_of
from inception_tf.nn import builder
from inception_tf.nn.network import build_model

__all__ = ["KINDS", "costs", "equal_cost_network", "make_study"]

SIZE = 32  # pixels, height and width


def _kinds(filters: int) -> dict[str, Branch]:
    """Each convolution, and what replaces it, between equally many channels."""
    return {
        "5x5": (Conv(filters, 5),),
        "two 3x3": (Conv(filters, 3), Conv(filters, 3)),
        "3x3": (Conv(filters, 3),),
        "1x3 and 3x1": (Conv(filters, (1, 3)), Conv(filters, (3, 1))),
        "two 2x2": (Conv(filters, 2), Conv(filters, 2)),
        "1x7 and 7x1": (Conv(filters, (1, 7)), Conv(filters, (7, 1))),
    }


KINDS = tuple(_kinds(1))
# The multiply-adds of a 3x3 convolution are equal on each: the grid halves, the channels double.
GRIDS = {56: 32, 28: 64, 14: 128, 7: 256}
ROUNDS, CALLS, TIMED_BATCH = 15, 3, 8
EARLY, MIDDLE = 32, 16  # grids of the replaced convolutions
PLACES = {EARLY: "32x32, early", MIDDLE: "16x16, middle"}
BLOCKS = 2  # replaced convolutions of a network
BUDGET = 4_000_000  # multiply-adds of these, for one image
BATCH_SIZE, LEARNING_RATE, MOMENTUM = 64, 0.05, 0.9


def make_study(setting: StudySettings) -> Study:
    """The time on four grids, then trainings of each kind at both places; see `MakeStudy.__call__`."""
    data = load_arrays(setting.data, SIZE)
    trials: dict[str, Any] = {
        f"time.{grid}": functools.partial(_measure, grid, channels)
        for grid, channels in GRIDS.items()
    }
    places = {f"{kind.replace(' ', '-')}.{grid}": (kind, grid) for grid in PLACES for kind in KINDS}
    for name, place, seed in seeds_of(setting, places):
        trials[name] = functools.partial(_train, data, *places[place], seed, setting.steps)
    summarize = functools.partial(_summarize, setting, data.counts["test"])
    return Study(data.counts, trials, summarize, size=(12.5, 4.0))


def costs(kind: str, grid: int, channels: int) -> tuple[int, int]:
    """The cost of one replaced convolution, without batch normalization.

    Args:
        kind: one of `KINDS`.
        grid: height and width of its input.
        channels: of its input and its output.

    Returns:
        The numbers in its kernels, and multiply-adds for one image.
    """
    kernels = sum(
        step.window[0] * step.window[1] * channels * channels
        for step in _kinds(channels)[kind]
        if isinstance(step, Conv)
    )
    return kernels, kernels * grid * grid


def equal_cost_network(kind: str, grid: int) -> Network:
    """A small network for 32x32 images, with replaced convolutions of a fixed cost on one grid.

    A 3x3 convolution, for the middle grid a pooling, a 1x1 convolution to the channels that give the cost, two
    replaced convolutions, pooling to 8x8, a 3x3 convolution, and average pooling.

    Args:
        kind: one of `KINDS`.
        grid: 32 or 16.

    Returns:
        Its table.
    """
    per_square = costs(kind, grid, 1)[1]
    channels = round((BUDGET / (BLOCKS * per_square)) ** 0.5)
    steps: list = [("stem", Conv(16, 3))]
    if grid == MIDDLE:
        steps.append(("pool_1", Pool("max", 3, 2)))
    steps.append(("reduce", Conv(channels)))
    for block in range(BLOCKS):
        for number, step in enumerate(_kinds(channels)[kind]):
            steps.append((f"block_{block}_{number}", step))
    steps.append(("pool_2", Pool("max", 3, grid // 8)))
    steps.append(("last", Conv(64, 3)))
    return Network(
        name=f"{kind}_{grid}".replace(" ", "_"),
        source="Szegedy et al. 2015, arXiv 1512.00567, section 3",
        backbone=tuple(steps),
        size=SIZE,
        min_size=8,
        dropout=0.0,
        initializer=HE,
    )


def _measure(grid: int, channels: int) -> dict:
    """Times all kinds in turn, round after round, so that a disturbance meets all of them."""
    images = tf.random.stateless_normal((TIMED_BATCH, grid, grid, channels), (0, grid))
    calls = {}
    for kind, branch in _kinds(channels).items():
        x = inputs = keras.Input((grid, grid, channels))
        for number, step in enumerate(branch):
            x = builder.apply_step(x, step, f"step_{number}", builder.LayerConfig())
        calls[kind] = tf.function(functools.partial(keras.Model(inputs, x), training=False))
        for _ in range(2):
            calls[kind](images)  # traced, and once without tracing
    seconds: dict[str, list[float]] = {kind: [] for kind in calls}
    for _ in range(ROUNDS):
        for kind, call in calls.items():
            started = time.process_time()
            for _ in range(CALLS):
                call(images).numpy()
            seconds[kind].append((time.process_time() - started) / CALLS)
    return {"seconds": seconds}


def _train(data: Arrays, kind: str, grid: int, seed: int, steps: int) -> dict:
    keras.utils.set_random_seed(seed)
    network = equal_cost_network(kind, grid)
    model = build_model(
        network,
        input_shape=(SIZE, SIZE, 3),
        classes=len(data.labels),
        classifier_activation=None,
        batch_norm_momentum=0.9,
    )
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    optimizer = keras.optimizers.SGD(schedule, momentum=MOMENTUM)
    loop = LoopSettings(steps, BATCH_SIZE, max(1, steps // 4), seed, augment=True)
    rows = train_loop(model, optimizer, data, loop)
    counted = layer_costs(network, SIZE, classes=len(data.labels))
    return {
        "curve": rows,
        "channels": next(row.output[2] for row in counted if row.layer.name == "reduce"),
        "parameters": total(counted, "params"),
        "multiply_adds": total(counted, "multiply_adds"),
    }


def _summarize(setting: StudySettings, images: int, results: Mapping[str, dict]) -> Summary:
    times = {grid: results[f"time.{grid}"]["seconds"] for grid in GRIDS}
    relative = {
        grid: {kind: _ratios(found[kind], found["3x3"]) for kind in KINDS}
        for grid, found in times.items()
    }
    rows = [_row(setting, results, relative, kind) for kind in KINDS]
    by_kind = {row["kind"]: row for row in rows}
    five, three, two = (by_kind[kind]["parameters"] for kind in ("5x5", "3x3", "two 3x3"))
    narrow, small = by_kind["1x3 and 3x1"], by_kind["two 2x2"]

    def above(first, second, key):
        """By more than the spread over seeds, and than what so many test images can tell apart."""
        told = (2 * first[key] * (1 - first[key]) / images) ** 0.5
        spread = max(told, first[f"{key}_sd"] or 0, second[f"{key}_sd"] or 0)
        return bool(first[key] - second[key] > spread)

    def gains(kind, grid):
        return by_kind[kind][f"accuracy_{grid}"] - by_kind["3x3"][f"accuracy_{grid}"]

    holds = {
        f"a 5x5 has 25/9 = {five / three:.2f} times as many numbers as a 3x3, and {five / two:.2f} times as many as two"
        " of them": five * 9 == three * 25,
        "1x3 and 3x1 have a third fewer numbers than a 3x3, two 2x2 a ninth": (
            narrow["parameters"] * 3 == three * 2 and small["parameters"] * 9 == three * 8
        ),
        "on a grid of 14, two 3x3 take less time than a 5x5": bool(
            np.median(times[14]["two 3x3"]) < np.median(times[14]["5x5"])
        ),
        "on a grid of 14, 1x3 and 3x1 take less time than a 3x3": bool(
            np.median(times[14]["1x3 and 3x1"]) < np.median(times[14]["3x3"])
        ),
        "at equal cost, two 3x3 are more accurate than a 5x5 on the middle grid, by more than the spread and a standard"
        f" deviation of {images:,} test images": above(
            by_kind["two 3x3"], by_kind["5x5"], f"accuracy_{MIDDLE}"
        ),
        "at equal cost, 1x3 and 3x1 are more accurate than two 2x2 on the middle grid, by more than the spread"
        f" and a standard deviation of {images:,} test images": above(
            narrow, small, f"accuracy_{MIDDLE}"
        ),
        **{
            f"at equal cost, {kind} compare better with a 3x3 on the middle grid than early": gains(
                kind, MIDDLE
            )
            > gains(kind, EARLY)
            for kind in ("1x3 and 3x1", "1x7 and 7x1")
        },
    }
    columns = (
        Column("kind", "convolution"),
        Column("parameters", "numbers in the kernels, 128 channels"),
        Column("multiply_adds", "multiply-adds on 14x14 (M)", 1),
        *(Column(f"time_{grid}", f"time on {grid}x{grid}, 3x3 = 1", 2) for grid in GRIDS),
        *(
            Column(f"accuracy_{grid}", f"accuracy, {PLACES[grid]}", 1, percent=True)
            for grid in PLACES
        ),
    )
    return Summary(columns, rows, holds, functools.partial(_draw, relative, rows))


def _ratios(seconds: Sequence[float], reference: Sequence[float]) -> list[float]:
    """The time of a kind over that of the reference in the same round."""
    return [one / other for one, other in zip(seconds, reference, strict=True)]


def _row(setting: StudySettings, results: Mapping, relative: Mapping, kind: str) -> dict:
    kernels, multiply_adds = costs(kind, 14, GRIDS[14])
    row: dict[str, Any] = {
        "kind": kind,
        "parameters": kernels,
        "multiply_adds": multiply_adds / 1e6,
    }
    for grid in GRIDS:
        row[f"time_{grid}"] = float(np.median(relative[grid][kind]))
    for grid in PLACES:
        name = f"{kind.replace(' ', '-')}.{grid}"
        ends = [results[f"{name}.{seed}"]["curve"][-1] for seed in range(setting.seeds)]
        row |= mean_and_spread(f"accuracy_{grid}", (end["test_accuracy"] for end in ends))
        row[f"channels_{grid}"] = results[f"{name}.0"]["channels"]
        row[f"network_multiply_adds_{grid}"] = results[f"{name}.0"]["multiply_adds"]
    return row


def _draw(relative: Mapping, rows: Sequence[dict], figure: Any) -> None:
    timed, trained = figure.subplots(1, 2, width_ratios=(1, 1.2))
    for number, kind in enumerate(KINDS):
        medians = [np.median(relative[grid][kind]) for grid in GRIDS]
        timed.plot(list(map(str, GRIDS)), medians, label=kind, **line_style(number))
    finish_axes(
        timed,
        xlabel="height and width of the grid; channels 32, 64, 128, 256",
        ylabel="processor time, 3x3 = 1",
        title="(a) time of a convolution and of what replaces it",
    )
    places = np.arange(len(rows))
    for number, (grid, shade, hatch) in enumerate(((EARLY, "0.8", "//"), (MIDDLE, "0.35", ""))):
        values = [100 * row[f"accuracy_{grid}"] for row in rows]
        spread = [100 * (row[f"accuracy_{grid}_sd"] or 0) for row in rows]
        trained.bar(
            places + 0.4 * (number - 0.5),
            values,
            0.38,
            yerr=spread,
            capsize=3,
            color=shade,
            hatch=hatch,
            edgecolor="0.2",
            label=f"on {PLACES[grid]}",
        )
    trained.set_xticks(places, [row["kind"] for row in rows], fontsize=8)
    lowest = min(row[f"accuracy_{grid}"] for row in rows for grid in PLACES)
    trained.set_ylim(bottom=max(0, 100 * lowest - 10))
    finish_axes(
        trained,
        ylabel="test accuracy (%)",
        title="(b) accuracy of networks of equal cost",
    )
