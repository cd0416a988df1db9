# SPDX-License-Identifier: Apache-2.0
"""The limit of each group of layers: arithmetic, memory, or neither.

Each stage of a network, from one feature map size to the next, is timed as a separate graph after
`optimize_for_inference`, interleaved with the others; the clock stops when its output is in NumPy.  It is
compared with two times that no program can beat: its operations at the peak rate of one matrix product or
convolution, and the bytes of its layers (each reads its inputs and weights and writes its output once) at
the peak rate of reading one large tensor or adding two into a third, both measured in this process before
and after.  The larger of both is the roof; a stage above it by more than 5 % is impossible, and no table
is printed.

    python benchmarks/roofline.py --plot roofline.png
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from dataclasses import dataclass

import click
from side_by_side import network_options, one_sentence

from inception_tf.benchmark.plausibility import Peak

BURN_IN = 2  # calls
WORKING_SET = 3 << 28  # bytes of the tensors that give the rate of memory: no cache holds them
NAME_SIZE, NAME_GAP = 8, 9  # points, of the names in the plot and between a mark and its name
HEAD = (
    "| stage | GFLOP | MB | FLOP per byte | arithmetic, ms | memory, ms | measured, ms | roof / measured | limit |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Stage:
    """Some consecutive steps of a network on one grid."""

    name: str
    operations: float  # a multiply-add is two
    bytes: float
    seconds: float


def stages(network, size: int) -> list[tuple[str, list[str]]]:
    """[(grid, names of its steps)]: steps in a row whose output has the same height."""
    from inception_tf.arch import counting

    rows = counting.layer_costs(network, size)
    height = {row.layer.endpoint: row.output[0] for row in rows}
    names = [name for name, _ in network.backbone if name in height]
    return [
        (f"{side}x{side}", list(group))
        for side, group in itertools.groupby(names, lambda name: height[name])
    ]


def traffic(model, batch: int) -> int:
    """Bytes that the layers of `model` read and write, each tensor once a layer."""
    import keras

    def size(tensor):
        width = keras.backend.standardize_dtype(tensor.dtype)
        return math.prod(tensor.shape[1:]) * batch * (2 if width.endswith("16") else 4)

    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        tensors = keras.tree.flatten([layer.input, layer.output])
        weights = sum(math.prod(w.shape) * (2 if "16" in w.dtype else 4) for w in layer.weights)
        total += sum(map(size, tensors)) + weights
    return total


def best(precision: str) -> Peak:
    """What this process reaches now."""
    from inception_tf.benchmark.peak import measure_flops, measure_memory_rate

    return Peak(measure_flops(precision), measure_memory_rate(WORKING_SET))


def page(title: str, rows: list[Stage], whole: Stage, peak: Peak) -> str:
    """The table; `UserError` where a stage is above the roof, or the whole network is faster than possible.

    whole: the network as one graph, whose bytes are those of all stages.
    """
    from inception_tf.benchmark.plausibility import Evidence, refuse_suspect

    refuse_suspect(
        (row.name, Evidence(row.seconds, row.operations, row.bytes, peak)) for row in (*rows, whole)
    )
    both = f"at best {peak.flops / 1e9:.0f} GFLOP/s and {peak.bytes / 1e9:.1f} GB/s"
    total = Stage("all stages", whole.operations, whole.bytes, sum(r.seconds for r in rows))
    lines = [f"{title}: {both}", "", HEAD]
    return "\n".join([*lines, *(_line(row, peak) for row in (*rows, total, whole))])


@click.command()
@network_options(batch_size=32, rounds=7, precision="bfloat16")
@click.option("--plot", "plot_file", metavar="FILE.png")
def main(model, batch_size, precision, size, rounds, plot_file):
    with one_sentence():
        title, rows, whole, peak = measure(model, batch_size, precision, size, rounds)
        click.echo(page(title, rows, whole, peak))
    if plot_file:
        draw(rows, peak, plot_file, title)


def measure(
    model: str, batch_size: int, precision: str, size: int | None, rounds: int
) -> tuple[str, list[Stage], Stage, Peak]:
    """What was measured on what, the stages, the network as one graph, and what the machine reaches."""
    import keras
    import numpy as np
    import tensorflow as tf

    from inception_tf import create_model, models
    from inception_tf.arch import counting
    from inception_tf.host.hardware import device_name
    from inception_tf.inference.constant_graph import make_graph
    from inception_tf.inference.optimize import optimize_for_inference
    from inception_tf.nn.network import endpoints

    network = models.find_network(model)
    size = size or network.size
    before = best(precision)
    costs = counting.layer_costs(network, size)
    whole = optimize_for_inference(create_model(model, input_shape=(size, size, 3)), precision)
    # A convolution alone has its activation inside, and kept its own name.
    ends = {layer.name.removesuffix("_conv"): layer.output for layer in whole.layers}
    ends |= endpoints(whole)
    calls, counted, tensor = {}, {}, whole.inputs[0]
    for grid, names in [*stages(network, size), ("head", [])]:
        end = ends[names[-1]] if names else whole.outputs[0]
        part = keras.Model(tensor, end)
        feed = tf.cast(tf.random.uniform((batch_size, *tensor.shape[1:]), 0, 1), tensor.dtype)
        calls[grid] = (make_graph(part, batch_size), feed)
        chosen = (
            [row for row in costs if row.layer.endpoint in names]
            if names
            else [row for row in costs if row.layer.endpoint not in dict(network.backbone)]
        )
        counted[grid] = (
            2 * batch_size * sum(r.multiply_adds for r in chosen),
            traffic(part, batch_size),
        )
        tensor = end
    calls["whole"] = (
        make_graph(whole, batch_size),
        tf.random.uniform((batch_size, size, size, 3), -1, 1),
    )
    times = {name: [] for name in calls}
    for number in range(rounds + BURN_IN):
        for name, (call, feed) in calls.items():
            started = time.perf_counter()
            np.asarray(call(feed))
            if number >= BURN_IN:
                times[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    rows = [Stage(name, *counted[name], seconds[name]) for name in counted]
    operations, traffics = (sum(values) for values in zip(*counted.values(), strict=True))
    return (
        f"{model}, batch {batch_size}, {size}x{size}, {precision}, {device_name()}",
        rows,
        Stage("one graph", operations, traffics, seconds["whole"]),
        before.better(best(precision)),
    )


def _line(row: Stage, peak: Peak) -> str:
    arithmetic, memory = row.operations / peak.flops, row.bytes / peak.bytes
    roof = max(arithmetic, memory)
    limit = "arithmetic" if arithmetic > memory else "memory"
    if roof < row.seconds / 2:
        limit = "neither"
    cells = (
        row.name,
        f"{row.operations / 1e9:.1f}",
        f"{row.bytes / 1e6:,.0f}",
        f"{row.operations / row.bytes:.0f}",
        *(f"{1e3 * value:.1f}" for value in (arithmetic, memory, row.seconds)),
        f"{roof / row.seconds:.0%}",
        limit,
    )
    return f"| {' | '.join(cells)} |"


def draw(rows: list[Stage], peak: Peak, path: str, title: str) -> None:
    """GFLOP/s over FLOP per byte in both logarithms, the roof, and a mark for each stage with its name beside it."""
    from matplotlib.figure import Figure

    figure = Figure((8, 5), layout="constrained")
    axes = figure.add_subplot()
    xs = [row.operations / row.bytes for row in rows]
    ys = [row.operations / row.seconds / 1e9 for row in rows]
    ridge = peak.flops / peak.bytes  # FLOP per byte from which arithmetic is the limit
    left, right = min(*xs, ridge) / 3, max(*xs, ridge) * 4
    line = [left, ridge, right]
    axes.plot(line, [min(peak.flops, x * peak.bytes) / 1e9 for x in line], color="0.2")
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(left, right),
        ylim=(min(ys) / 2, peak.flops / 1e9 * 2),
        xlabel="FLOP per byte",
        ylabel="GFLOP/s",
    )
    top = f"{peak.flops / 1e9:.0f} GFLOP/s"
    axes.text(right, peak.flops / 1e9 * 1.06, f"{top} ", fontsize=9, ha="right", va="bottom")
    middle = math.sqrt(left * ridge)
    words = f"{peak.bytes / 1e9:.1f} GB/s "
    axes.text(middle, middle * peak.bytes / 1e9 * 1.1, words, fontsize=9, ha="right", va="bottom")
    axes.plot(xs, ys, "o", color="0.35", markersize=5)
    axes.set_xticks(*_ticks(left, right))
    axes.set_yticks(*_ticks(*axes.get_ylim()))
    axes.minorticks_off()
    axes.grid(color="0.9")
    axes.set_title(title, fontsize=9)
    figure.draw_without_rendering()  # only now every mark has its place
    names = [f"{row.name}, {1e3 * row.seconds:.3g} ms" for row in rows]
    _name_marks(axes, names, xs, ys, peak.flops / 1e9)
    figure.savefig(path, dpi=100)


def _ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """1, 2 and 5 times the powers of ten from `low` to `high`, and how they are written."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    values = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    values = [value for value in values if low <= value <= high]
    return values, [f"{value:g}" for value in values]


def _name_marks(axes, names: list[str], xs: list[float], ys: list[float], roof: float) -> None:
    """A name at each mark's right or left, as near as no other name or mark is in the way, with a line to it."""
    (_, above), *_ = axes.transData.transform([(xs[0], roof)]) * 72 / axes.figure.dpi
    points = axes.transData.transform(list(zip(xs, ys, strict=True))) * 72 / axes.figure.dpi
    low, high = axes.bbox.get_points()[:, 0] * 72 / axes.figure.dpi
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    taken.append((low, above - 2, high, above + 2))

    def box(i: int, down: float, side: int) -> tuple[float, ...]:
        (x, y), width = points[i], NAME_SIZE * 0.56 * len(names[i])
        left = x + NAME_GAP if side > 0 else x - NAME_GAP - width
        return (left, y - down - 5, left + width, y - down + 5)

    def free(place: tuple[float, ...]) -> bool:
        inside = low <= place[0] and place[2] <= high
        return inside and not any(_overlap(place, other) for other in taken)

    places = {}
    for i in sorted(range(len(names)), key=lambda i: xs[i]):
        if free(box(i, 0, -1)):
            places[i] = (0, -1)
            taken.append(box(i, 0, -1))
    # Then from the right: what has no room beside it goes down, away from the roof.
    for i in sorted(set(range(len(names))) - set(places), key=lambda i: -xs[i]):
        tried = itertools.product(range(0, 400, 3), (1, -1))
        places[i] = next((p for p in tried if free(box(i, *p))), (0, 1))
        taken.append(box(i, *places[i]))
    for i, (down, side) in places.items():
        axes.annotate(
            names[i],
            (xs[i], ys[i]),
            (side * NAME_GAP, -down),
            textcoords="offset points",
            fontsize=NAME_SIZE,
            ha="left" if side > 0 else "right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.6", "shrinkA": 0, "shrinkB": 3},
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Of two boxes (left, bottom, right, top)."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


if __name__ == "__main__":
    main()
