# SPDX-License-Identifier: Apache-2.0
"""What limits each group of layers: arithmetic, memory, or neither of them.

Each stage of a network, from one grid to the next, is timed as a graph of its own, as
`optimize_for_inference` leaves it, in turn with the others.  Beside it stand the two times
that no program can beat: its operations at the best rate that one matrix product or convolution
reached in this process, and the bytes of its layers (each reads its inputs and weights and writes its
output once) at the best rate of a large sum of two tensors.  The larger of both is the roof.

    python benchmarks/roofline.py --plot roofline.png
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from dataclasses import dataclass

import click

BURN_IN = 2  # calls
COPIED = (
    1 << 26
)  # numbers in the tensors whose sum gives the rate of memory: 256 MiB each in float32


@dataclass(frozen=True)
class Stage:
    """Some consecutive steps of a network on one grid."""

    name: str
    operations: float  # a multiply-add is two
    bytes: float
    seconds: float


def stages(network, size: int) -> list[tuple[str, list[str]]]:
    """[(grid, names of its steps)]: steps in a row whose output has the same height."""
    from inception_tf import spec

    rows = spec.facts(network, size)
    height = {row.place.endpoint: row.output[0] for row in rows}
    names = [name for name, _ in network.body if name in height]
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


def memory_rate() -> float:
    """Bytes a second of a large sum of two tensors in float32: two are read, one is written."""
    import tensorflow as tf

    a = tf.ones([COPIED])
    add = tf.function(lambda x, y: x + y)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        add(a, a)
        times.append(time.perf_counter() - started)
    return 3 * COPIED * a.dtype.size / min(times[1:])


@click.command()
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--precision", default="bfloat16", show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--plot", "plot_file", metavar="FILE.png")
def main(model, batch_size, precision, rounds, plot_file):
    import keras
    import numpy as np
    import tensorflow as tf

    from inception_tf import create_model, models, spec
    from inception_tf.benchmark.peak import peak_flops
    from inception_tf.frozen import one_graph
    from inception_tf.host.hardware import processor_name
    from inception_tf.models.build import endpoints
    from inception_tf.optimize import optimize_for_inference

    network = models.find(model)
    size = network.size
    facts = spec.facts(network, size)
    whole = optimize_for_inference(create_model(model), precision)
    # A convolution alone has its activation inside, and kept its own name.
    ends = {layer.name.removesuffix("_conv"): layer.output for layer in whole.layers}
    ends |= endpoints(whole)
    calls, counted, tensor = {}, {}, whole.inputs[0]
    for grid, names in [*stages(network, size), ("head", [])]:
        end = ends[names[-1]] if names else whole.outputs[0]
        part = keras.Model(tensor, end)
        feed = tf.cast(tf.random.uniform((batch_size, *tensor.shape[1:]), 0, 1), tensor.dtype)
        calls[grid] = (one_graph(part, batch_size), feed)
        chosen = (
            [row for row in facts if row.place.endpoint in names]
            if names
            else [row for row in facts if row.place.endpoint not in dict(network.body)]
        )
        counted[grid] = (
            2 * batch_size * sum(r.multiply_adds for r in chosen),
            traffic(part, batch_size),
        )
        tensor = end
    calls["whole"] = (
        one_graph(whole, batch_size),
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
    peak, rate = peak_flops(precision), memory_rate()
    rows = [Stage(name, *counted[name], seconds[name]) for name in counted]
    click.echo(
        f"{model}, batch {batch_size}, {size}x{size}, {precision}, {processor_name()}:"
        f" at best {peak / 1e9:.0f} GFLOP/s and {rate / 1e9:.1f} GB/s\n"
    )
    click.echo(
        "| stage | GFLOP | MB | FLOP a byte | arithmetic, ms | memory, ms | measured, ms | roof / measured | limit |"
    )
    click.echo("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        click.echo(_line(row, peak, rate))
    total = Stage(
        "all stages",
        *(sum(v) for v in zip(*counted.values(), strict=True)),
        sum(r.seconds for r in rows),
    )
    click.echo(_line(total, peak, rate))
    click.echo(
        _line(Stage("one graph", total.operations, total.bytes, seconds["whole"]), peak, rate)
    )
    if plot_file:
        draw(
            rows,
            peak,
            rate,
            plot_file,
            f"{model}, batch {batch_size}, {precision}, {processor_name()}",
        )


def _line(row: Stage, peak: float, rate: float) -> str:
    arithmetic, memory = row.operations / peak, row.bytes / rate
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


def draw(rows: list[Stage], peak: float, rate: float, path: str, title: str) -> None:
    """GFLOP/s over FLOP a byte in both logarithms, the roof, and a point for each stage."""
    from matplotlib.figure import Figure

    figure = Figure((7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    xs = [row.operations / row.bytes for row in rows]
    span = [min(xs) / 3, max(*xs, peak / rate) * 3]
    line = sorted([*span, peak / rate])
    axes.plot(line, [min(peak, x * rate) / 1e9 for x in line], color="0.2", label="roof")
    for row, x, marker in zip(rows, xs, itertools.cycle("os^vD<>p*Xh"), strict=False):
        speed = row.operations / row.seconds / 1e9
        axes.plot(x, speed, marker, color="0.4", label=f"{row.name}, {1e3 * row.seconds:.0f} ms")
    axes.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="GFLOP/s")
    axes.set_title(title, fontsize=9)
    axes.grid(color="0.9", which="both")
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
