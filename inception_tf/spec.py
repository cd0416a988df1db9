# SPDX-License-Identifier: Apache-2.0
"""What a network is, as data, and the arithmetic that follows from it.  No TensorFlow here.

A network is a table of named steps.  Three nouns make every step: `Conv`, `Pool` and `Fork`
(branches side by side, joined along the channels).  `blocks.py` turns a table into Keras layers;
this module turns the same table into names, output sizes, parameters and multiply-adds, and the
tests hold the two against each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from inception_tf.errors import UserError

__all__ = [
    "AVG",
    "MAX",
    "SAME",
    "VALID",
    "Auxiliary",
    "Branch",
    "Conv",
    "Facts",
    "Fork",
    "Network",
    "Place",
    "Pool",
    "Step",
    "depth_of",
    "facts",
    "fork",
    "min_width",
    "output_side",
    "stage",
    "total",
    "walk",
]

SAME = "same"
VALID = "valid"

MIN_WIDTH = 16  # filters that a width multiplier leaves at least; slim's `min_depth`


@dataclass(frozen=True)
class Conv:
    """A convolution with what follows it in its network: batch normalization or a bias, then the activation."""

    filters: int
    kernel: int | tuple[int, int] = 1  # height, width
    stride: int = 1
    padding: str = SAME
    stddev: float | None = None  # of the initial weights; None: the network's own rule

    @property
    def window(self) -> tuple[int, int]:
        return self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)


@dataclass(frozen=True)
class Pool:
    """A pooling: `max`, or `avg`, which leaves padded places out of the mean as TensorFlow does."""

    kind: str
    kernel: int = 3
    stride: int = 1
    padding: str = SAME

    @property
    def window(self) -> tuple[int, int]:
        return (self.kernel, self.kernel)


@dataclass(frozen=True)
class Fork:
    """Branches that read the same input; their outputs are joined along the channels, in order."""

    branches: tuple[Branch, ...]


Step = Conv | Pool | Fork
Branch = tuple[Step, ...]

MAX = Pool("max")
AVG = Pool("avg")


@dataclass(frozen=True)
class Auxiliary:
    """A second classifier on an inner grid, for training only."""

    name: str  # the endpoint of its logits, `AuxLogits`
    output: str  # the key in the model's outputs, `aux_predictions`
    after: str  # the endpoint that it reads
    steps: tuple[tuple[str, Step], ...]
    loss_weight: float
    logits_stddev: float | None = None  # of its initial weights; None: He's rule


@dataclass(frozen=True)
class Network:
    """A whole network: its table and the few facts that a table of steps cannot say."""

    name: str
    source: str  # the paper and section, or the published code that this table states
    body: tuple[tuple[str, Step], ...]
    size: int  # pixels, the published input height and width
    minimum: int  # pixels, the least input height and width that leaves one place in the last grid
    dropout: float  # share of features dropped before the logits
    initializer_stddev: float | None  # of a truncated normal; None: He's rule
    auxiliaries: tuple[Auxiliary, ...] = ()
    accuracy: str = ""  # published single-crop top-1 / top-5 and whose it is


@dataclass(frozen=True)
class Place:
    """Where a step stands: its name by position, the endpoint that holds it, and the step itself."""

    name: str  # Mixed_5b_b1_0
    endpoint: str  # Mixed_5b
    path: tuple[int, ...]  # (1, 0): branch 1, step 0
    step: Conv | Pool


@dataclass(frozen=True)
class Facts:
    """What one step of a network gives and costs for one image."""

    place: Place
    output: tuple[int, int, int]  # height, width, channels
    params: int  # all numbers held, moving statistics included
    trainable: int
    multiply_adds: int


def fork(*branches: Branch) -> Fork:
    return Fork(branches)


def stage(number: int, letters: str, *steps: Step) -> tuple[tuple[str, Step], ...]:
    """Names `Mixed_<number><letter>` for consecutive steps; one step given is repeated for every letter."""
    if len(steps) == 1:
        steps = steps * len(letters)
    return tuple(
        (f"Mixed_{number}{letter}", step) for letter, step in zip(letters, steps, strict=True)
    )


def min_width(filters: int, multiplier: float) -> int:
    """Filters under a width multiplier, as slim's `depth`: rounded down, never below 16 (or the table's own)."""
    if multiplier == 1.0:
        return filters
    return max(int(filters * multiplier), MIN_WIDTH)


def output_side(side: int, kernel: int, stride: int, padding: str) -> int:
    """Height or width after a window: TensorFlow's two padding rules."""
    if padding == SAME:
        return -(-side // stride)
    return (side - kernel) // stride + 1


def walk(name: str, step: Step, path: tuple[int, ...] = (), root: str = "") -> Iterator[Place]:
    """Every convolution and pooling in `step`, in the order of the table, with its name by position."""
    root = root or name
    if isinstance(step, Fork):
        for b, branch in enumerate(step.branches):
            for s, inner in enumerate(branch):
                yield from walk(f"{name}_b{b}_{s}", inner, (*path, b, s), root)
    else:
        yield Place(name, root, path, step)


def depth_of(step: Step) -> int:
    """Layers with weights on the longest way through a step: Table 1's `depth`."""
    if isinstance(step, Fork):
        return max(sum(map(depth_of, branch)) for branch in step.branches)
    return int(isinstance(step, Conv))


def shrunk(step: Conv | Pool, height: int | None, width: int | None) -> Conv | Pool:
    """A step whose window is cut to a smaller grid, as slim cuts its auxiliary classifier's on small images."""
    sides = [side for side in (height, width) if side is not None]
    if not sides or min(sides) >= max(step.window):
        return step
    return dataclasses.replace(step, kernel=min(*sides, *step.window))


def facts(
    network: Network,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    classes: int | None = 1000,
    aux_logits: bool = False,
    width_multiplier: float = 1.0,
) -> tuple[Facts, ...]:
    """One row a step for one image, the classifiers last; `classes=None` leaves the classifiers out.

    size: pixels, one number or (height, width); default is the network's own.
    """
    height, width = (size, size) if isinstance(size, int) else size or (network.size,) * 2
    if min(height, width) < network.minimum:
        raise UserError(
            f"{network.name} needs images of at least {network.minimum}x{network.minimum} pixels, got {height}x{width}"
        )
    counter = _Counter(width_multiplier)
    shape, ends = (height, width, channels), {}
    for name, step in network.body:
        shape = ends[name] = counter.add(name, step, shape)
    if classes:
        if aux_logits:
            for auxiliary in network.auxiliaries:
                _count_auxiliary(counter, auxiliary, ends[auxiliary.after], classes)
        counter.dense("Logits", shape[2], classes)
    return tuple(counter.rows)


def total(rows: tuple[Facts, ...], field: str) -> int:
    """Sum of `params`, `trainable` or `multiply_adds` over rows."""
    return sum(getattr(row, field) for row in rows)


def _count_auxiliary(counter: _Counter, auxiliary: Auxiliary, shape, classes: int) -> None:
    for name, step in auxiliary.steps:
        step = shrunk(step, shape[0], shape[1])
        shape = counter.add(f"{auxiliary.name}_{name}", step, shape)
    counter.dense(auxiliary.name, shape[2], classes)


class _Counter:
    """Follows a shape through the steps and writes down what each costs."""

    def __init__(self, width_multiplier: float):
        self.width_multiplier = width_multiplier
        self.rows: list[Facts] = []

    def add(self, name, step, shape, path=(), endpoint=""):
        endpoint = endpoint or name
        if isinstance(step, Fork):
            ends = []
            for b, branch in enumerate(step.branches):
                inner = shape
                for s, part in enumerate(branch):
                    inner = self.add(f"{name}_b{b}_{s}", part, inner, (*path, b, s), endpoint)
                ends.append(inner)
            return (*ends[0][:2], sum(end[2] for end in ends))
        h, w = (
            output_side(side, k, step.stride, step.padding)
            for side, k in zip(shape[:2], step.window, strict=True)
        )
        place = Place(name, endpoint, path, step)
        if isinstance(step, Pool):
            self.rows.append(Facts(place, (h, w, shape[2]), 0, 0, 0))
            return (h, w, shape[2])
        filters = min_width(step.filters, self.width_multiplier)
        weights = step.window[0] * step.window[1] * shape[2] * filters
        # Batch normalization without gamma: beta trained, mean and variance kept.
        self.rows.append(
            Facts(place, (h, w, filters), weights + 3 * filters, weights + filters, weights * h * w)
        )
        return (h, w, filters)

    def dense(self, name: str, inputs: int, classes: int) -> None:
        place = Place(name, name, (), Conv(classes))
        weights = inputs * classes
        self.rows.append(
            Facts(place, (1, 1, classes), weights + classes, weights + classes, weights)
        )
