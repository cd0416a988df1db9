# SPDX-License-Identifier: Apache-2.0
"""How close the convolutions of a training step come to the peak of the processor: each shape and pass alone.

Every distinct convolution of the network is timed forward, as input gradient and as filter gradient, each
one TensorFlow operation, and the filter gradient also as the matrix products that
`inception_tf.training.convolutions` can use instead, one compiled function.  The clock includes one call,
from operands in memory to its result in memory, and so some 20 microseconds of TensorFlow's eager
execution; the first two rounds are not counted.  Every round runs all shapes and passes once, and between
them a large matrix product of the same precision.  The peak is the best of these and of one large product
or convolution before and after; a rate above it is rejected.  The table has medians over the rounds;
totals count a shape as often as the network has it, and no gradient of the images.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --model inception_v1 --precision float32
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass

import click
from side_by_side import network_options, one_sentence

BURN_IN = 2  # rounds
PEAK_SIDE = 4096  # of the square matrices whose product gives the peak
PEAK_EVERY = 12  # calls from one such product to the next
PASSES = ("forward", "input gradient", "filter gradient", "the same as products")


@dataclass(frozen=True)
class Shape:
    """A convolution of x (N, H, W, C) with a kernel (h, w, C, K)."""

    x: tuple[int, int, int, int]
    kernel: tuple[int, int, int, int]
    stride: int
    padding: str  # SAME or VALID
    first: bool  # reads the images, which need no gradient

    def __str__(self):
        h, w, c, k = self.kernel
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{h}x{w}{stride}, {c} to {k} at {self.x[1]}x{self.x[2]}"

    @property
    def y(self) -> tuple[int, int, int, int]:
        n, *grid, _ = self.x
        kept = [0 if self.padding == "SAME" else side - 1 for side in self.kernel[:2]]
        return (
            n,
            *(-(-(a - b) // self.stride) for a, b in zip(grid, kept, strict=True)),
            self.kernel[3],
        )

    @property
    def operations(self) -> float:
        """Of any of the three passes; a multiply-add is two."""
        n, h, w, k = self.y
        height, width, c, _ = self.kernel
        return 2.0 * n * h * w * k * height * width * c


def shapes_of(name: str, size: int, batch: int) -> Counter:
    """`{Shape: how often the network has it}`, in the network's order."""
    import keras

    from inception_tf import create_model

    model = create_model(name, input_shape=(size, size, 3))
    found = Counter()
    for layer in model.layers:
        if type(layer) is keras.layers.Conv2D:
            x = (batch, *layer.input.shape[1:])
            kernel = tuple(layer.kernel.shape)
            first = x[-1] == 3
            found[Shape(x, kernel, layer.strides[0], layer.padding.upper(), first)] += 1
    return found


def calls_of(shape: Shape, dtype: str) -> dict:
    """`{pass: function}`, each one operation on operands of `dtype` that are made here."""
    import tensorflow as tf

    from inception_tf.training.convolutions import filter_gradient

    def drawn(*sides):
        return tf.cast(tf.random.stateless_normal(sides, (0, 0)), dtype)

    x, kernel, back = drawn(*shape.x), drawn(*shape.kernel), drawn(*shape.y)
    options = {
        "strides": (1, shape.stride, shape.stride, 1),
        "padding": shape.padding,
        "data_format": "NHWC",
    }
    calls = {
        "forward": lambda: tf.raw_ops.Conv2D(input=x, filter=kernel, **options),
        "filter gradient": lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=shape.kernel, out_backprop=back, **options
        ),
    }
    products = tf.function(
        lambda x, back: filter_gradient(x, back, shape.kernel, shape.stride, shape.padding)
    )
    calls["the same as products"] = lambda: products(x, back)
    if not shape.first:
        calls["input gradient"] = lambda: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=shape.x, filter=kernel, out_backprop=back, **options
        )
    return calls


def medians(calls: dict, peak, rounds: int) -> tuple[dict, float]:
    """`{key: seconds}` of each call, and the least of `peak`, by which they are interleaved."""
    import numpy as np

    seconds, at_best = {key: [] for key in calls}, []

    def timed(call, into, counts):
        start = time.perf_counter()
        call()
        if counts:
            into.append(time.perf_counter() - start)

    for number in range(-BURN_IN, rounds):
        for place, (key, call) in enumerate(calls.items()):
            if place % PEAK_EVERY == 0:
                timed(peak, at_best, number >= 0)
            timed(call, seconds[key], number >= 0)
    return {key: float(np.median(values)) for key, values in seconds.items()}, min(at_best)


def rows(shapes: Counter, seconds: dict, peak: float) -> list[str]:
    """A line a shape, the slowest gradients of filters first, and the totals."""

    def cell(operations, spent):
        rate = operations / spent
        return f"{1e3 * spent:.2f} | {rate / 1e9:.0f} | {rate / peak:.0%}"

    lines = []
    for shape, times in sorted(
        shapes.items(), key=lambda item: -item[1] * seconds[item[0], "filter gradient"]
    ):
        cells = [
            cell(shape.operations, seconds[shape, what]) if (shape, what) in seconds else " | | "
            for what in PASSES
        ]
        lines.append(f"| {shape} | {times} | {' | '.join(cells)} |")
    cells = []
    for what in PASSES:
        chosen = [shape for shape in shapes if (shape, what) in seconds]
        operations = sum(shape.operations * shapes[shape] for shape in chosen)
        cells.append(cell(operations, sum(seconds[s, what] * shapes[s] for s in chosen)))
    return [*lines, f"| all | {sum(shapes.values())} | {' | '.join(cells)} |"]


@click.command()
@network_options(batch_size=16, rounds=7, precision="bfloat16")
def main(model: str, size: int | None, batch_size: int, precision: str, rounds: int) -> None:
    """Time, rate and fraction of the peak of each convolution, forward and both gradients."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with one_sentence():
        page(model, size, batch_size, precision, rounds)


def page(model: str, size: int | None, batch_size: int, precision: str, rounds: int) -> None:
    """Measures and prints; `UserError` for an impossible figure."""
    import tensorflow as tf

    from inception_tf.benchmark.peak import measure_flops
    from inception_tf.benchmark.plausibility import Evidence, Peak, refuse_suspect
    from inception_tf.host.hardware import processor_name
    from inception_tf.models import find_network

    size = size or find_network(model).size
    shapes = shapes_of(model, size, batch_size)
    calls = {
        (shape, what): call for shape in shapes for what, call in calls_of(shape, precision).items()
    }
    square = tf.cast(tf.random.stateless_normal((PEAK_SIDE, PEAK_SIDE), (0, 0)), precision)
    before = measure_flops(precision)
    seconds, best = medians(calls, lambda: tf.linalg.matmul(square, square), rounds)
    peak = max(before, measure_flops(precision), 2.0 * PEAK_SIDE**3 / best)
    refuse_suspect(
        (f"{shape}, {what}", Evidence(spent, shape.operations, peak=Peak(peak)))
        for (shape, what), spent in seconds.items()
    )
    click.echo(
        f"{model}, batch {batch_size}, {size}x{size}, {precision}, {rounds} rounds, {processor_name()}:"
        f" at best {peak / 1e9:.0f} GFLOP/s\n"
    )
    columns = " | ".join(f"{what}, ms | GFLOP/s | of the peak" for what in PASSES)
    click.echo(f"| convolution | times | {columns} |\n|{'---|' * (2 + 3 * len(PASSES))}")
    click.echo("\n".join(rows(shapes, seconds, peak)))


if __name__ == "__main__":
    main()
