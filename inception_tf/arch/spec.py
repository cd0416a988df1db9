# SPDX-License-Identifier: Apache-2.0
"""A network as data: the nouns of its table, its layers by name, and what holds of one step.

A network is a table of named steps.  Three nouns make nearly all of them: `Conv`, `Pool` and `Fork`
(parallel branches, concatenated along the channels).  `Residual` adds a fork to its input; `Separable`,
`LocalNorm` and `Dropout` occur in one network each.  `nn/builder.py` turns a table into Keras layers,
`counting.py` into output shapes, parameters and multiply-adds, and the tests compare the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AVG",
    "AdaptivePool",
    "Auxiliary",
    "BatchNorm",
    "Branch",
    "CAFFE_XAVIER",
    "CEIL",
    "Conv",
    "Dropout",
    "Fork",
    "HE",
    "Initializer",
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
    "XAVIER",
    "depth_multiplier",
    "depth_of",
    "fork",
    "iter_layers",
    "output_length",
    "scale_filters",
    "shrink_window",
    "stage",
]

SAME = "same"
VALID = "valid"
# Caffe's and torch's ceil mode: the last window may reach past the bottom and right edges.
CEIL = "ceil"
Padding = str | int  # one of these three, or the number of zeros on each of the four sides
Shape = tuple[int, int, int]  # height, width, channels

# A truncated normal's standard deviation, or the name of Keras' initializer: He et al. 2015; Glorot and Bengio 2010,
# Xavier in slim; and what Caffe calls Xavier, which divides by the inputs alone.
Initializer = float | str
HE, XAVIER, CAFFE_XAVIER = "he_normal", "glorot_uniform", "lecun_uniform"

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
    biased: bool = False  # a bias in place of batch normalization, then the activation

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias in a network with batch normalization too."""
        return self.linear or self.biased


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
    includes the zeros, as in torch.  A maximum never includes padding, which may be above all that it pads.
    """

    kind: Literal["max", "avg"]
    kernel: int = 3
    stride: int = 1
    padding: Padding = SAME

    def __post_init__(self) -> None:
        if self.padding == CEIL and (self.kind, self.stride) != ("max", 2):
            raise ValueError("ceil mode is for max pooling with stride 2")
        if self.kind == "max" and isinstance(self.padding, int):
            raise ValueError("max pooling takes no padding with zeros")


@dataclass(frozen=True)
class AdaptivePool:
    """Average pooling of a feature map of any size to `size` x `size`, by torch's windows, which may overlap."""

    size: int  # pixels, height and width of the output


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


Simple = (
    Conv | Separable | Pool | AdaptivePool | LocalNorm | BatchNorm | Dropout
)  # a step without branches
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
    logits_stddev: float | None = None  # of its kernel initializer; None: as the network's logits


@dataclass(frozen=True)
class Network:
    """A network: the table of its backbone, and what applies to the network as a whole."""

    name: str
    source: str  # the paper and section, or the published code that this table follows
    backbone: NamedSteps
    size: int  # pixels, the published input height and width
    min_size: int  # pixels, the smallest input that leaves a 1x1 final feature map
    dropout: float  # fraction of features dropped before the logits, in [0, 1)
    initializer: Initializer  # of the kernels of convolutions without a `stddev` of their own
    logits_initializer: Initializer = HE
    bias: float = 0.0  # initial value of the convolutions' biases
    decays_biases: bool = False  # weight decay reaches biases too
    # Further names of endpoints in the published code: name → our endpoint.
    aliases: tuple[tuple[str, str], ...] = ()
    auxiliaries: tuple[Auxiliary, ...] = ()
    batch_norm: bool = True  # after every convolution, in place of its bias
    hidden_batch_norm: bool = False  # of the features before the logits
    batch_norm_scale: bool = False  # every batch normalization has a gamma, as torch's networks do
    backbone_only: bool = False  # a variant without a classifier
    accuracy: str = ""  # published single-crop top-1 / top-5 in percent, and who measured it
    notes: tuple[str, ...] = ()  # sentences about misprints in its layer table


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a network: a step without branches, and its name by position."""

    name: str  # Mixed_5b_b1_0
    endpoint: str  # Mixed_5b, the step of the table that it belongs to
    path: tuple[int, ...]  # (1, 0): branch 1, step 0
    step: Simple


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


def depth_multiplier(step: Separable, filters: int) -> int:
    """The depthwise part's outputs per input channel, which slim limits in a narrow network.

    Args:
        step: The separable convolution of an RGB image.
        filters: int. Filters of its pointwise part, after the width multiplier.

    Returns:
        The published multiplier, or fewer, so that the depthwise part has no more outputs than the pointwise one.
    """
    return min(filters // 3, step.multiplier)
