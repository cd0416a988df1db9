# SPDX-License-Identifier: Apache-2.0
"""A network as data, with the arithmetic that follows from it: names, shapes, parameters, multiply-adds.

A network is a table of named steps.  Three nouns make nearly all of them: `Conv`, `Pool` and `Fork`
(parallel branches, concatenated along the channels).  `Residual` adds a fork to its input; `Separable`,
`LocalNorm` and `Dropout` occur in one network each.  `nn/builder.py` turns a table into Keras layers; this
module, without TensorFlow or Keras, turns the same table into layer names, output shapes, parameters and
multiply-adds, and the tests compare the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from inception_tf.errors import UserError

__all__ = [
    "AVG",
    "Auxiliary",
    "BatchNorm",
    "Branch",
    "CEIL",
    "Conv",
    "Dropout",
    "Fork",
    "LayerCost",
    "LayerSpec",
    "LocalNorm",
    "MAX",
    "NamedSteps",
    "Network",
    "Pool",
    "Residual",
    "SAME",
    "Separable",
    "Step",
    "UP",
    "VALID",
    "depth_multiplier",
    "depth_of",
    "fork",
    "iter_layers",
    "layer_costs",
    "output_length",
    "scale_filters",
    "shrink_window",
    "stage",
    "total",
]

SAME = "same"
VALID = "valid"
# Caffe's and torch's ceil mode: the last window may reach past the bottom and right edges.
CEIL = "ceil"
Padding = str | int  # one of these three, or the number of zeros on each of the four sides
Shape = tuple[int, int, int]  # height, width, channels

MIN_FILTERS = 16  # the fewest filters that a width multiplier leaves; slim's `min_depth`


class _Window:
    """A step with a kernel."""

    kernel: int | tuple[int, int]

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the kernel in pixels."""
        return self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)


@dataclass(frozen=True)
class Conv(_Window):
    """A convolution, then batch normalization or a bias as its network has it, then the activation."""

    filters: int
    kernel: int | tuple[int, int] = 1  # height, width
    stride: int = 1
    padding: Padding = SAME
    dilation: int = 1  # distance in pixels between neighboring kernel taps
    stddev: float | None = None  # of the kernel initializer; None: the network's default
    linear: bool = False  # a bias, but neither batch normalization nor activation


@dataclass(frozen=True)
class Separable(_Window):
    """A depthwise convolution, then a 1x1 convolution, a bias and the activation; never batch normalization."""

    filters: int
    kernel: int
    stride: int
    multiplier: int  # depth multiplier: outputs of the depthwise part per input channel
    padding: Padding = SAME
    stddev: float | None = None


@dataclass(frozen=True)
class Pool(_Window):
    """Max or average pooling.

    With `SAME` padding the average excludes the padding, as in TensorFlow; with an integer padding it
    includes the zeros, as in torch.
    """

    kind: Literal["max", "avg"]
    kernel: int = 3
    stride: int = 1
    padding: Padding = SAME


@dataclass(frozen=True)
class LocalNorm:
    """Local response normalization over five channels, with the constants of Caffe's GoogLeNet."""


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization of pooled features; that of a convolution belongs to its `Conv`."""


@dataclass(frozen=True)
class Dropout:
    """Dropout between two steps."""

    rate: float  # fraction of features dropped, in [0, 1)


@dataclass(frozen=True)
class Fork:
    """Parallel branches on one input, concatenated along the channels in order."""

    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Residual:
    """x + scale * up(fork(x)), then the activation; `up` is a linear 1x1 convolution to the channels of x."""

    branches: tuple[Branch, ...]
    scale: float
    activate: bool = True


Simple = Conv | Separable | Pool | LocalNorm | BatchNorm | Dropout  # a step without branches
Step = Simple | Fork | Residual
Branch = tuple[Step, ...]
NamedSteps = tuple[tuple[str, Step], ...]  # endpoint and step, in order

UP = Conv(
    0, linear=True
)  # of a `Residual`; it has as many filters as the residual's input channels

MAX = Pool("max")
AVG = Pool("avg")


@dataclass(frozen=True)
class Auxiliary:
    """An auxiliary classifier on an intermediate feature map, for training only."""

    name: str  # the endpoint of its logits, `AuxLogits`
    output: str  # its key in the model's outputs, `aux_predictions`
    after: str  # the endpoint that it reads
    steps: NamedSteps
    loss_weight: float  # factor on its loss
    dropout: float = 0.0  # fraction of features dropped before its logits, in [0, 1)
    logits_stddev: float | None = None  # of its kernel initializer; None: He initialization


@dataclass(frozen=True)
class Network:
    """A network: the table of its backbone, and what applies to the network as a whole."""

    name: str
    source: str  # the paper and section, or the published code that this table follows
    backbone: NamedSteps
    size: int  # pixels, the published input height and width
    min_size: int  # pixels, the smallest input that leaves a 1x1 final feature map
    dropout: float  # fraction of features dropped before the logits, in [0, 1)
    initializer_stddev: float | None  # of a truncated normal; None: He initialization
    auxiliaries: tuple[Auxiliary, ...] = ()
    batch_norm: bool = True  # after every convolution, in place of its bias
    hidden_batch_norm: bool = False  # of the features before the logits
    backbone_only: bool = False  # a variant without a classifier
    accuracy: str = ""  # published single-crop top-1 / top-5 in percent, and who measured it


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a network: a step without branches, and its name by position."""

    name: str  # Mixed_5b_b1_0
    endpoint: str  # Mixed_5b, the step of the table that it belongs to
    path: tuple[int, ...]  # (1, 0): branch 1, step 0
    step: Simple


@dataclass(frozen=True)
class LayerCost:
    """Output shape, parameters and arithmetic of one layer, for one image."""

    layer: LayerSpec
    output: Shape
    params: int  # all parameters, moving statistics included
    trainable: int  # trainable parameters
    multiply_adds: int  # of the forward pass
    # Of the gradients with respect to the weights, and to the input if that depends on weights.
    backward_multiply_adds: int


def fork(*branches: Branch) -> Fork:
    """A `Fork` of the branches, without the outer parentheses.

    Args:
        *branches: Tuples of steps.

    Returns:
        The fork, its channels in the order of the branches.
    """
    return Fork(branches)


def stage(number: int, letters: str, *steps: Step) -> NamedSteps:
    """Consecutive steps with the names `Mixed_<number><letter>`.

    Args:
        number: int. The number of the stage.
        letters: str. One letter per step.
        *steps: One step per letter, or a single step to repeat.

    Returns:
        (name, step) pairs.
    """
    if len(steps) == 1:
        steps = steps * len(letters)
    return tuple(
        (f"Mixed_{number}{letter}", step) for letter, step in zip(letters, steps, strict=True)
    )


def scale_filters(filters: int, multiplier: float) -> int:
    """The number of filters under a width multiplier, as slim's `depth` computes it.

    Args:
        filters: int. The published number.
        multiplier: float above 0.

    Returns:
        The product, rounded down and at least 16; `filters` itself for a multiplier of 1.
    """
    if multiplier == 1.0:
        return filters
    return max(int(filters * multiplier), MIN_FILTERS)


def output_length(
    length: int, kernel: int, stride: int, padding: Padding, dilation: int = 1
) -> int:
    """Output height or width of a convolution or pooling.

    Args:
        length: int. Input height or width in pixels.
        kernel: int. Kernel height or width in pixels.
        stride: int. In pixels.
        padding: `SAME`, `VALID`, `CEIL`, or the number of zeros on each side.
        dilation: int. Distance in pixels between neighboring kernel taps.

    Returns:
        The length in pixels.
    """
    if padding == SAME:
        return -(-length // stride)
    zeros = {VALID: 0, CEIL: stride - 1}
    padded = 2 * padding if isinstance(padding, int) else zeros[padding]
    return (length + padded - (kernel - 1) * dilation - 1) // stride + 1


def iter_layers(
    name: str, step: Step, path: tuple[int, ...] = (), endpoint: str = ""
) -> Iterator[LayerSpec]:
    """Every layer of a step, in the order of the table, named by position.

    Args:
        name: str. The name of the step.
        step: The step.
        path: Branch and step numbers that lead to `step` inside its endpoint; empty for the endpoint's own.
        endpoint: str. The step of the table that `step` belongs to; empty for `name`.

    Yields:
        One `LayerSpec` per layer; a residual's `up` is the last.
    """
    endpoint = endpoint or name
    if not isinstance(step, Fork | Residual):
        yield LayerSpec(name, endpoint, path, step)
        return
    for b, branch in enumerate(step.branches):
        for s, inner in enumerate(branch):
            yield from iter_layers(f"{name}_b{b}_{s}", inner, (*path, b, s), endpoint)
    if isinstance(step, Residual):
        yield LayerSpec(f"{name}_up", endpoint, (*path, len(step.branches)), UP)


def depth_of(step: Step) -> int:
    """The number of layers with weights on the longest path through a step: Table 1's `depth`.

    Args:
        step: The step.

    Returns:
        0 for a step without weights.
    """
    if isinstance(step, Fork | Residual):
        longest = max(sum(map(depth_of, branch)) for branch in step.branches)
        return longest + isinstance(step, Residual)
    return {Conv: 1, Separable: 2}.get(type(step), 0)


def shrink_window(step: Step, height: int | None, width: int | None) -> Step:
    """A step with its kernel reduced to fit a smaller feature map, as slim does in its auxiliary classifier.

    Args:
        step: The step; all but `Conv` and `Pool` are returned unchanged.
        height, width: int, or None if unknown. The feature map's size in pixels.

    Returns:
        The step, with a square kernel if its own was larger than the feature map.
    """
    if not isinstance(step, Conv | Pool):
        return step
    sides = [side for side in (height, width) if side is not None]
    if not sides or min(sides) >= max(step.window):
        return step
    return dataclasses.replace(step, kernel=min(*sides, *step.window))


def layer_costs(
    network: Network,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    classes: int | None = 1000,
    aux_logits: bool = False,
    width_multiplier: float = 1.0,
) -> tuple[LayerCost, ...]:
    """Output shape, parameters and multiply-adds of every layer, for one image.

    Args:
        network: The network.
        size: Input size in pixels, one number or (height, width); None: the published size.
        channels: int. Input channels.
        classes: int, or None for the backbone alone.
        aux_logits: bool. Include the auxiliary classifiers.
        width_multiplier: float above 0. Factor on every convolution's filters.

    Returns:
        One row per layer in the order of the table, the classifiers last.

    Raises:
        UserError: The size is below the network's minimum.
    """
    height, width = (size, size) if isinstance(size, int) else size or (network.size,) * 2
    if min(height, width) < network.min_size:
        raise UserError(
            f"{network.name} needs images of at least {network.min_size}x{network.min_size} pixels, got {height}x{width}"
        )
    counter = _Counter(width_multiplier, network.batch_norm)
    shape: Shape = (height, width, channels)
    ends: dict[str, Shape] = {}
    for name, step in network.backbone:
        shape = ends[name] = counter.add(name, step, shape)
    if classes:
        if aux_logits:
            for auxiliary in network.auxiliaries:
                _count_auxiliary(counter, auxiliary, ends[auxiliary.after], classes)
        if network.hidden_batch_norm:
            counter.norm("Hidden_bn", shape[2])
        counter.dense("Logits", shape[2], classes)
    return tuple(counter.rows)


def total(rows: tuple[LayerCost, ...], field: str) -> int:
    """The sum of one field over rows.

    Args:
        rows: What `layer_costs` returned.
        field: `params`, `trainable`, `multiply_adds` or `backward_multiply_adds`.

    Returns:
        The sum.
    """
    return sum(getattr(row, field) for row in rows)


def _count_auxiliary(counter: _Counter, auxiliary: Auxiliary, shape: Shape, classes: int) -> None:
    for name, step in auxiliary.steps:
        step = shrink_window(step, shape[0], shape[1])
        shape = counter.add(f"{auxiliary.name}_{name}", step, shape)
    counter.dense(auxiliary.name, shape[2], classes)


class _Counter:
    """Propagates a shape through the steps and records the cost of each layer."""

    def __init__(self, width_multiplier: float, batch_norm: bool) -> None:
        self.width_multiplier = width_multiplier
        self.batch_norm = batch_norm
        self.rows: list[LayerCost] = []
        self.needs_input_gradient = False  # whether the next layer's input depends on weights

    def add(
        self, name: str, step: Step, shape: Shape, path: tuple[int, ...] = (), endpoint: str = ""
    ) -> Shape:
        """Record a step on an input of `shape`; return the shape of its output."""
        endpoint = endpoint or name
        if isinstance(step, Fork | Residual):
            return self._branches(name, step, shape, path, endpoint)
        layer = LayerSpec(name, endpoint, path, step)
        if isinstance(step, LocalNorm | BatchNorm | Dropout):
            return self._row(layer, shape)
        dilation = step.dilation if isinstance(step, Conv) else 1
        h, w = (
            output_length(length, k, step.stride, step.padding, dilation)
            for length, k in zip(shape[:2], step.window, strict=True)
        )
        if isinstance(step, Pool):
            return self._row(layer, (h, w, shape[2]))
        filters = scale_filters(step.filters, self.width_multiplier)
        area = step.window[0] * step.window[1]
        if isinstance(step, Separable):
            depthwise = shape[2] * depth_multiplier(step, filters)
            first, rest = area * depthwise, depthwise * filters
        else:
            first, rest = area * shape[2] * filters, 0
        normed = isinstance(step, Conv) and self.batch_norm and not step.linear
        statistics = 2 * filters if normed else 0
        return self._row(layer, (h, w, filters), first, rest, statistics=statistics)

    def dense(self, name: str, inputs: int, classes: int) -> None:
        """Record a dense layer with a bias."""
        layer = LayerSpec(name, name, (), Conv(classes, linear=True))
        self._row(layer, (1, 1, classes), inputs * classes)

    def norm(self, name: str, features: int) -> None:
        """Record the batch normalization of pooled features: beta, moving mean and moving variance; only beta is trained."""
        layer = LayerSpec(name, name, (), BatchNorm())
        self.rows.append(LayerCost(layer, (1, 1, features), 3 * features, features, 0, 0))

    def _branches(
        self, name: str, step: Fork | Residual, shape: Shape, path: tuple[int, ...], endpoint: str
    ) -> Shape:
        ends, before, after = [], self.needs_input_gradient, self.needs_input_gradient
        for b, branch in enumerate(step.branches):
            inner, self.needs_input_gradient = shape, before
            for s, part in enumerate(branch):
                inner = self.add(f"{name}_b{b}_{s}", part, inner, (*path, b, s), endpoint)
            ends.append(inner)
            after = after or self.needs_input_gradient
        self.needs_input_gradient = after
        joined = sum(end[2] for end in ends)
        if isinstance(step, Fork):
            return (*ends[0][:2], joined)
        layer = LayerSpec(f"{name}_up", endpoint, (*path, len(step.branches)), UP)
        return self._row(layer, shape, joined * shape[2])

    def _row(
        self,
        layer: LayerSpec,
        output: Shape,
        weights: int = 0,
        pointwise: int = 0,
        *,
        statistics: int = 0,
    ) -> Shape:
        """Record one layer and return its output shape.

        weights, pointwise: weights of the kernel that reads the layer's input, and of a pointwise kernel after it;
        a beta or bias per output channel is added here.
        """
        kernels = weights + pointwise
        trainable = kernels + output[2] if kernels else 0
        positions = output[0] * output[1]
        # The gradient with respect to a kernel costs as much as the kernel, and so does that to its input, if needed.
        backward = positions * (2 * kernels - (0 if self.needs_input_gradient else weights))
        self.needs_input_gradient = self.needs_input_gradient or kernels > 0
        self.rows.append(
            LayerCost(
                layer, output, trainable + statistics, trainable, kernels * positions, backward
            )
        )
        return output


def depth_multiplier(step: Separable, filters: int) -> int:
    """The depthwise part's outputs per input channel, which slim limits in a narrow network.

    Args:
        step: The separable convolution of an RGB image.
        filters: int. Filters of its pointwise part, after the width multiplier.

    Returns:
        The published multiplier, or fewer, so that the depthwise part has no more outputs than the pointwise one.
    """
    return min(filters // 3, step.multiplier)
