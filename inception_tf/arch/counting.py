# SPDX-License-Identifier: Apache-2.0
"""What follows from a network's table by arithmetic, without TensorFlow or Keras: shapes, parameters, multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass

from inception_tf.arch.spec import (
    UP,
    AdaptivePool,
    Auxiliary,
    BatchNorm,
    Conv,
    Dropout,
    Fork,
    LayerSpec,
    LocalNorm,
    Network,
    Pool,
    Residual,
    Separable,
    Shape,
    Step,
    depth_multiplier,
    output_length,
    scale_filters,
    shrink_window,
)
from inception_tf.errors import UserError

__all__ = ["LayerCost", "layer_costs", "total"]


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
    counter = _Counter(width_multiplier, network.batch_norm, network.batch_norm_scale)
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

    def __init__(self, width_multiplier: float, batch_norm: bool, batch_norm_scale: bool) -> None:
        self.width_multiplier = width_multiplier
        self.batch_norm = batch_norm
        self.trained = 2 if batch_norm_scale else 1  # per channel of a normalization: beta, gamma
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
        if isinstance(step, AdaptivePool):
            return self._row(layer, (step.size, step.size, shape[2]))
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
        normed = isinstance(step, Conv) and self.batch_norm and not step.has_bias
        if not normed:
            return self._row(layer, (h, w, filters), first, rest)
        gammas = (self.trained - 1) * filters
        return self._row(layer, (h, w, filters), first, rest, gammas=gammas, statistics=2 * filters)

    def dense(self, name: str, inputs: int, classes: int) -> None:
        """Record a dense layer with a bias."""
        layer = LayerSpec(name, name, (), Conv(classes, linear=True))
        self._row(layer, (1, 1, classes), inputs * classes)

    def norm(self, name: str, features: int) -> None:
        """Record the batch normalization of pooled features: two moving statistics, and what is trained."""
        layer = LayerSpec(name, name, (), BatchNorm())
        self.rows.append(
            LayerCost(
                layer,
                (1, 1, features),
                (self.trained + 2) * features,
                self.trained * features,
                0,
                0,
            )
        )

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
        gammas: int = 0,
        statistics: int = 0,
    ) -> Shape:
        """Record one layer and return its output shape.

        weights, pointwise: weights of the kernel that reads the layer's input, and of a pointwise kernel after it;
        a beta or bias per output channel is added here.
        """
        kernels = weights + pointwise
        trainable = kernels + output[2] + gammas if kernels else 0
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
