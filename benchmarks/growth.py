# SPDX-License-Identifier: Apache-2.0
"""How time and memory of a forward pass grow with batch, image size, width and depth, on one and on two threads.

Each point is a separate process; all points are interleaved, `--rounds` times, and the median step counts.
The weights are variables in all of them, even at small batches.  Time and memory are fitted by c * x^e over
all points of a curve (least squares of the logarithms); the table and the plot give e.  Memory is what
TensorFlow's allocator holds at most in a forward pass, in addition to the network and its images: what the
process holds says less, because the pass first uses what was freed before it.  Each process also measures the
peak of the machine with its threads, before and after; an impossible figure, of memory too, is rejected, and no
table is printed.

    python benchmarks/growth.py --plot growth.png
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass

import click
from side_by_side import answer, one_sentence

from inception_tf.benchmark.plausibility import Evidence, Peak

BURN_IN = 2  # calls
STAGE = "Mixed_6"  # of Inception V4, whose blocks are repeated for depth
PUBLISHED = 7  # of them
CHILD = """
import dataclasses, json, math, sys, time
import numpy as np, tensorflow as tf
point = json.loads(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(point["threads"])
tf.config.threading.set_inter_op_parallelism_threads(point["threads"])
from inception_tf import models
from inception_tf.arch import counting
from inception_tf.benchmark.peak import measure_flops, measure_memory_rate
from inception_tf.benchmark.report import least_bytes
from inception_tf.nn.network import build_model
from inception_tf.inference.optimize import optimize_for_inference

def deeper(network, blocks):
    stage = [step for step in network.backbone if step[0].startswith({stage!r})]
    body = []
    for name, step in network.backbone:
        if (name, step) == stage[1]:  # the first is the reduction before them
            body += [(f"{{name}}_{{i}}", step) for i in range(blocks)]
        elif (name, step) not in stage[1:]:
            body.append((name, step))
    return dataclasses.replace(network, backbone=tuple(body), auxiliaries=())

size = point["size"]
images = tf.random.uniform((point["batch"], size, size, 3), -1, 1)
network = models.find_network(point["model"])
if point["blocks"]:
    network = deeper(network, point["blocks"])
costs = counting.layer_costs(network, size, width_multiplier=point["width"])
pixels = 3 * size**2 * point["batch"]
least = least_bytes("Forward", point["precision"], counting.total(costs, "params"), pixels)
best = lambda: (measure_flops(point["precision"]), measure_memory_rate(least))
limits = [best()]
model = build_model(network, input_shape=(size, size, 3), width_multiplier=point["width"])
layers = sum("Conv" in type(layer).__name__ for layer in model.layers)
numbers = max(math.prod(layer.output.shape[1:]) for layer in model.layers[1:])
model = optimize_for_inference(model, point["precision"])
call = tf.function(lambda images: model(images, training=False), autograph=False)
np.asarray(call(images))
allocator = tf.config.experimental
allocator.reset_memory_stats("CPU:0")
before = allocator.get_memory_info("CPU:0")["current"]
seconds = []
for _ in range(point["steps"] + {burn_in}):
    started = time.perf_counter()
    np.asarray(call(images))
    seconds.append(time.perf_counter() - started)
held = allocator.get_memory_info("CPU:0")["peak"] - before
limits.append(best())
print(json.dumps({{
    "seconds": seconds[{burn_in}:],
    "memory": held,
    "least_memory": point["batch"] * numbers * (4 if point["precision"] == "float32" else 2),
    "layers": layers,
    "operations": 2 * point["batch"] * counting.total(costs, "multiply_adds"),
    "least_bytes": least,
    "limits": [max(values) for values in zip(*limits)],
}}))
"""


@dataclass(frozen=True)
class Point:
    """One setting to be timed."""

    threads: int
    precision: str
    steps: int
    model: str = "inception_v3"
    batch: int = 8  # images
    size: int = 299  # pixels
    width: float = 1.0
    blocks: int = 0  # of the 17x17 stage; 0: the published number


# What grows: (name on the axis, field, values).
CURVES = {
    "batch": ("batch, images", "batch", (1, 2, 4, 8, 16, 32, 64)),
    "size": ("height and width, pixels", "size", (75, 107, 149, 224, 299, 405, 512)),
    "width": ("width multiplier", "width", (0.25, 0.5, 0.75, 1.0, 1.5)),
    "depth": ("convolutions, Inception V4", "blocks", (1, 3, 7, 14, 28)),
}


def measure(point: Point) -> dict:
    """What a process of its own tells of a point.

    Returns:
        `seconds` of each step; `memory`, `least_memory`, that of the largest feature maps, and
        `least_bytes` in bytes; `layers`, the number of convolutions; `operations` of a step;
        `limits`, operations and bytes a second at best.
    """
    program = CHILD.format(stage=STAGE, burn_in=BURN_IN)
    return answer(sys.executable, "pass", json.dumps(asdict(point)), clock=program)


def refuse(measured: dict[tuple, list[dict]]) -> None:
    """`UserError` where a point is impossible; the best limits of all its processes count."""
    from inception_tf.benchmark.plausibility import refuse_suspect
    from inception_tf.errors import UserError

    figures = []
    for key, processes in measured.items():
        peak = Peak()
        for one in processes:
            peak = peak.better(Peak(*one["limits"]))
        seconds = statistics.median(s for one in processes for s in one["seconds"])
        first = processes[0]
        evidence = Evidence(seconds, first["operations"], first["least_bytes"], peak)
        figures.append((", ".join(map(str, key)), evidence))
        for one in processes:
            if one["memory"] < one["least_memory"]:
                raise UserError(
                    f"{figures[-1][0]} is impossible: {one['memory'] / 2**20:.1f} MiB, and its largest feature maps take"
                    f" {one['least_memory'] / 2**20:.1f} MiB"
                )
    refuse_suspect(figures)


def exponent(xs: list[float], ys: list[float]) -> tuple[float, float]:
    """e and c of c * x^e, by least squares of the logarithms."""
    slope, intercept = statistics.linear_regression(
        [math.log(x) for x in xs], [math.log(y) for y in ys]
    )
    return slope, math.exp(intercept)


def ticks(low: float, high: float) -> list[float]:
    """Two to ten round numbers from `low` to `high`, for a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10), [x / 2 for x in range(2, 20)]):
        values = [step * 10.0**power for power in powers for step in steps]
        values = [value for value in values if low <= value <= high]
        if len(values) >= 3:
            break
    return values


def draw(found: dict, path: str, title: str) -> None:
    """A row of panels for time, one for memory; a line for each number of threads, the fit dotted."""
    from matplotlib.figure import Figure

    figure = Figure((3.4 * len(CURVES), 6), layout="constrained")
    axes = figure.subplots(2, len(CURVES), squeeze=False)
    styles = ({"marker": "o", "color": "0.55"}, {"marker": "s", "color": "0.05"})
    for column, (label, field, _) in enumerate(CURVES.values()):
        for row, unit in enumerate(("seconds a batch", "memory, MiB")):
            panel = axes[row][column]
            for style, (threads, points) in zip(styles, found[field].items(), strict=False):
                xs, ys = [p[0] for p in points], [p[1 + row] for p in points]
                power, factor = exponent(xs, ys)
                words = f"{threads} thread{'s' if threads > 1 else ''}: exponent {power:.2f}"
                panel.plot(xs, ys, linestyle="none", label=words, **style)
                panel.plot(xs, [factor * x**power for x in xs], linestyle=":", color=style["color"])
            panel.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
            panel.set_xticks(xs, [f"{x:g}" for x in xs])
            values = ticks(*panel.get_ylim())
            panel.set_yticks(values, [f"{value:g}" for value in values])
            panel.minorticks_off()
            panel.grid(color="0.9")
            panel.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)


@click.command()
@click.option("--precision", default="bfloat16", show_default=True)
@click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--steps", default=3, show_default=True, help="Steps per point and round.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--plot", "plot_file", metavar="FILE.png")
@click.option("--json", "json_file", metavar="FILE")
def main(precision, threads, steps, rounds, plot_file, json_file):
    from inception_tf.host.hardware import processor_name

    points = {
        (curve, count, value): Point(
            count,
            precision,
            steps,
            **{field: value},
            **({"model": "inception_v4"} if curve == "depth" else {}),
        )
        for curve, (_, field, values) in CURVES.items()
        for count in threads
        for value in values
    }
    measured = {key: [] for key in points}
    for number in range(rounds):
        for key, point in points.items():
            measured[key].append(measure(point))
            fastest = min(measured[key][-1]["seconds"])
            click.echo(f"round {number + 1}, {key}: {fastest:.3f} s", err=True)
    with one_sentence():
        refuse(measured)
    times, memory, layers = {}, {}, {}
    for key, processes in measured.items():
        times[key] = [s for one in processes for s in one["seconds"]]
        memory[key] = max(one["memory"] for one in processes)
        layers[key] = processes[0]["layers"]
    found = {
        CURVES[curve][1]: {
            count: [
                (
                    layers[curve, count, value] if curve == "depth" else value,
                    statistics.median(times[curve, count, value]),
                    memory[curve, count, value] / 2**20,
                )
                for value in CURVES[curve][2]
            ]
            for count in threads
        }
        for curve in CURVES
    }
    if json_file:
        with open(json_file, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)
    if plot_file:
        title = f"Inception V3 (depth: V4) in {precision}, batch 8 at 299x299 but where one of them grows; {processor_name()}"
        draw(found, plot_file, title)
    click.echo(
        "| what grows | threads | from | to | s / batch | exponent of time | MiB | exponent of memory |"
    )
    click.echo("|---|---|---|---|---|---|---|---|")
    for curve, (_, field, _) in CURVES.items():
        for count in threads:
            rows = found[field][count]
            xs, seconds, mebibytes = zip(*rows, strict=True)
            first, last = f"{xs[0]:g}", f"{xs[-1]:g}"
            click.echo(
                f"| {curve} | {count} | {first} | {last} | {seconds[0]:.3f} to {seconds[-1]:.3f}"
                f" | {exponent(xs, seconds)[0]:.2f} | {mebibytes[0]:,.0f} to {mebibytes[-1]:,.0f}"
                f" | {exponent(xs, mebibytes)[0]:.2f} |"
            )


if __name__ == "__main__":
    main()
