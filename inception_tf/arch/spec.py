# SPDX-License-Identifier: Apache-2.0
"""What a network is, as data, and the arithmetic that follows from it.  No TensorFlow here.

A network is a table of named steps.  Three nouns make nearly all of them: `Conv`, `Pool` and `Fork`
(branches side by side, joined along the channels); `Residual` adds a fork to its input, and
`Separable`, `LocalNorm` and `Drop` stand where one network needs them.  `nn/builder.py` turns a table
into Keras layers; this module turns the same table into names, output sizes, parameters and
multiply-adds, and the tests hold the two against each other.
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
    "CEIL",
    "Conv",
    "Drop",
    "Facts",
    "Fork",
    "LocalNorm",
    "Network",
    "Norm",
    "Place",
    "Pool",
    "Residual",
    "Separable",
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
CEIL = (
    "ceil"  # Caffe's and torch's ceil mode: a last window may reach over the bottom and right edges
)
Padding = str | int  # one of these, or so many zeros on each of the four sides

MIN_WIDTH = 16  # filters that a width multiplier leaves at least; slim's `min_depth`


class _Window:
    """What has a kernel: its height and width."""

    kernel: int | tuple[int, int]

    @property
    def window(self) -> tuple[int, int]:
        return self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)


@dataclass(frozen=True)
class Conv(_Window):
    """A convolution with what follows it in its network: batch normalization or a bias, then the activation."""

    filters: int
    kernel: int | tuple[int, int] = 1  # height, width
    stride: int = 1
    padding: Padding = SAME
    rate: int = 1  # of dilation: the distance between the places that a kernel reads
    stddev: float | None = None  # of the initial weights; None: the network's own rule
    linear: bool = False  # a bias and nothing else: neither batch normalization nor activation


@dataclass(frozen=True)
class Separable(_Window):
    """A depthwise convolution, then a 1x1 one; a bias and the activation, never batch normalization."""

    filters: int
    kernel: int
    stride: int
    multiplier: int  # outputs a channel of the depthwise part
    padding: Padding = SAME
    stddev: float | None = None


@dataclass(frozen=True)
class Pool(_Window):
    """A pooling: `max`, or `avg`, which leaves places padded by `same` out of the mean as TensorFlow does.

    An average over a number of padded zeros counts them, as torch does.
    """

    kind: str
    kernel: int = 3
    stride: int = 1
    padding: Padding = SAME


@dataclass(frozen=True)
class LocalNorm:
    """Krizhevsky's local response normalization over five channels, as Caffe's GoogLeNet sets it."""


@dataclass(frozen=True)
class Norm:
    """Batch normalization of features that have no places, each apart; those of a `Conv` belong to it."""


@dataclass(frozen=True)
class Drop:
    """Dropout inside a network."""

    rate: float


@dataclass(frozen=True)
class Fork:
    """Branches that read the same input; their outputs are joined along the channels, in order."""

    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Residual:
    """x + scale * up(fork(x)), then the activation; `up` is a linear 1x1 convolution to the width of x."""

    branches: tuple[Branch, ...]
    scale: float
    activate: bool = True


Simple = Conv | Separable | Pool | LocalNorm | Norm | Drop  # one layer's work, in one place
Step = Simple | Fork | Residual
Branch = tuple[Step, ...]

UP = Conv(0, linear=True)  # of a `Residual`; its width is that of the residual's input

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
    dropout: float = 0.0  # share of features dropped before its logits
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
    batch_norm: bool = True  # after every convolution, in place of its bias
    hidden_batch_norm: bool = False  # of the features before the logits
    body_only: bool = False  # a variant that ends before the classifier
    accuracy: str = ""  # published single-crop top-1 / top-5 and whose it is


@dataclass(frozen=True)
class Place:
    """Where a step stands: its name by position, the endpoint that holds it, and the step itself."""

    name: str  # Mixed_5b_b1_0
    endpoint: str  # Mixed_5b
    path: tuple[int, ...]  # (1, 0): branch 1, step 0
    step: Simple


@dataclass(frozen=True)
class Facts:
    """What one step of a network gives and costs for one image."""

    place: Place
    output: tuple[int, int, int]  # height, width, channels
    params: int  # all numbers held, moving statistics included
    trainable: int
    multiply_adds: int  # of the forward pass
    backward_multiply_adds: (
        int  # of the gradients: by the weights, and by the input where it depends on weights
    )


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
    """Filters under a width multiplier, as slim's `depth`: rounded down, and never below 16."""
    if multiplier == 1.0:
        return filters
    return max(int(filters * multiplier), MIN_WIDTH)


def output_side(side: int, kernel: int, stride: int, padding: Padding, rate: int = 1) -> int:
    """Height or width after a window."""
    if padding == SAME:
        return -(-side // stride)
    padded = {VALID: 0, CEIL: stride - 1}.get(
        padding, 2 * padding if isinstance(padding, int) else 0
    )
    return (side + padded - (kernel - 1) * rate - 1) // stride + 1


def walk(name: str, step: Step, path: tuple[int, ...] = (), root: str = "") -> Iterator[Place]:
    """Every simple step in `step`, in the order of the table, with its name by position."""
    root = root or name
    if not isinstance(step, Fork | Residual):
        yield Place(name, root, path, step)
        return
    for b, branch in enumerate(step.branches):
        for s, inner in enumerate(branch):
            yield from walk(f"{name}_b{b}_{s}", inner, (*path, b, s), root)
    if isinstance(step, Residual):
        yield Place(f"{name}_up", root, (*path, len(step.branches)), UP)


def depth_of(step: Step) -> int:
    """Layers with weights on the longest way through a step: Table 1's `depth`."""
    if isinstance(step, Fork | Residual):
        longest = max(sum(map(depth_of, branch)) for branch in step.branches)
        return longest + isinstance(step, Residual)
    return {Conv: 1, Separable: 2}.get(type(step), 0)


def shrunk(step: Step, height: int | None, width: int | None) -> Step:
    """A step whose window is cut to a smaller grid, as slim cuts its auxiliary classifier's on small images."""
    if not isinstance(step, Conv | Pool):
        return step
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
    counter = _Counter(width_multiplier, network.batch_norm)
    shape, ends = (height, width, channels), {}
    for name, step in network.body:
        shape = ends[name] = counter.add(name, step, shape)
    if classes:
        if aux_logits:
            for auxiliary in network.auxiliaries:
                _count_auxiliary(counter, auxiliary, ends[auxiliary.after], classes)
        if network.hidden_batch_norm:
            counter.norm("Hidden_bn", shape[2])
        counter.dense("Logits", shape[2], classes)
    return tuple(counter.rows)


def total(rows: tuple[Facts, ...], field: str) -> int:
    """Sum of `params`, `trainable`, `multiply_adds` or `backward_multiply_adds` over rows."""
    return sum(getattr(row, field) for row in rows)


def _count_auxiliary(counter: _Counter, auxiliary: Auxiliary, shape, classes: int) -> None:
    for name, step in auxiliary.steps:
        step = shrunk(step, shape[0], shape[1])
        shape = counter.add(f"{auxiliary.name}_{name}", step, shape)
    counter.dense(auxiliary.name, shape[2], classes)


class _Counter:
    """Follows a shape through the steps and writes down what each costs."""

    def __init__(self, width_multiplier: float, batch_norm: bool):
        self.width_multiplier = width_multiplier
        self.batch_norm = batch_norm
        self.rows: list[Facts] = []
        self.learned = False  # does what the next step reads depend on weights?  The image does not

    def add(self, name, step, shape, path=(), endpoint=""):
        endpoint = endpoint or name
        if isinstance(step, Fork | Residual):
            return self._branches(name, step, shape, path, endpoint)
        place = Place(name, endpoint, path, step)
        if isinstance(step, LocalNorm | Drop):
            return self._row(place, shape)
        rate = step.rate if isinstance(step, Conv) else 1
        h, w = (
            output_side(side, k, step.stride, step.padding, rate)
            for side, k in zip(shape[:2], step.window, strict=True)
        )
        if isinstance(step, Pool):
            return self._row(place, (h, w, shape[2]))
        filters = min_width(step.filters, self.width_multiplier)
        if isinstance(step, Separable):
            deep = shape[2] * depth_multiplier(step, filters)
            first, rest = step.window[0] * step.window[1] * deep, deep * filters
        else:
            first, rest = step.window[0] * step.window[1] * shape[2] * filters, 0
        normed = isinstance(step, Conv) and self.batch_norm and not step.linear
        statistics = 2 * filters if normed else 0
        return self._row(place, (h, w, filters), first, rest, statistics=statistics)

    def dense(self, name: str, inputs: int, classes: int) -> None:
        self._row(
            Place(name, name, (), Conv(classes, linear=True)), (1, 1, classes), inputs * classes
        )

    def norm(self, name: str, features: int) -> None:
        """A shift, a mean and a variance a feature; the shift alone is trained."""
        place = Place(name, name, (), Norm())
        self.rows.append(Facts(place, (1, 1, features), 3 * features, features, 0, 0))

    def _branches(self, name, step, shape, path, endpoint):
        ends, before, after = [], self.learned, self.learned
        for b, branch in enumerate(step.branches):
            inner, self.learned = shape, before
            for s, part in enumerate(branch):
                inner = self.add(f"{name}_b{b}_{s}", part, inner, (*path, b, s), endpoint)
            ends.append(inner)
            after = after or self.learned
        self.learned = after
        joined = sum(end[2] for end in ends)
        if isinstance(step, Fork):
            return (*ends[0][:2], joined)
        place = Place(f"{name}_up", endpoint, (*path, len(step.branches)), UP)
        return self._row(place, shape, joined * shape[2])

    def _row(self, place, output, weights=0, pointwise=0, *, statistics=0):
        """weights, pointwise: numbers in the kernel that reads the step's input, and in the one after it.

        A beta or a bias for each channel of the output comes on top.
        """
        kernels = weights + pointwise
        trainable = kernels + output[2] if kernels else 0
        grid = output[0] * output[1]
        # Each kernel's gradient takes what the kernel took, and so does its input's, where anybody needs it.
        backward = grid * (2 * kernels - (0 if self.learned else weights))
        self.learned = self.learned or kernels > 0
        self.rows.append(
            Facts(place, output, trainable + statistics, trainable, kernels * grid, backward)
        )
        return output


def depth_multiplier(step: Separable, filters: int) -> int:
    """Outputs a channel of the depthwise part: slim keeps a narrow network's from having more than it passes on."""
    return min(filters // 3, step.multiplier)
