# SPDX-License-Identifier: Apache-2.0
"""The width multiplier that a file's kernels show, and the activation that its configuration shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from inception_tf.arch import spec
from inception_tf.arch.spec import Network
from inception_tf.nn.network import PREDICTIONS

__all__ = ["activation_of_config", "same_filters", "width_of_kernels"]

Shape = tuple[int, ...]
MOST_DIGITS = 9  # after the point of a multiplier that is found


def width_of_kernels(kernels: Mapping[str, Shape], network: Network) -> float | None:
    """The width multiplier of a network, by the shapes of its kernels.

    Args:
        kernels: Layer, such as `Conv2d_1a_7x7_conv` → shape.
        network: The published table.

    Returns:
        1 where the kernels have the table's filters; else the shortest number that gives theirs; None where no number
        does, or a window is another.
    """
    pairs = list(_filters(kernels, network))
    if any(pair is None for pair in pairs):
        return None
    found = [pair for pair in pairs if pair]
    if all(ours == theirs for ours, theirs in found):
        return 1.0
    # int(ours * width) == theirs; at the least number of filters, `theirs` says only what the width is below.
    low = max((k / f for f, k in found if k > spec.MIN_FILTERS), default=0.0)
    high = min((k + 1) / f for f, k in found)
    for digits in range(MOST_DIGITS):
        width = math.ceil(low * 10**digits) / 10**digits or 10.0**-digits
        if width < high and all(spec.scale_filters(f, width) == k for f, k in found):
            return width
    return None


def _filters(kernels: Mapping[str, Shape], network: Network) -> Iterator[tuple[int, int] | None]:
    """The filters of each convolution in the table and in the file; None where the file has another window."""
    for name, step in network.backbone:
        for layer in spec.iter_layers(name, step):
            if not isinstance(layer.step, spec.Conv) or layer.step is spec.UP:
                continue
            shape = kernels.get(f"{layer.name}_conv", ())
            fits = len(shape) == 4 and shape[:2] == layer.step.window
            yield (layer.step.filters, shape[-1]) if fits else None


def same_filters(network: Network, first: float, second: float) -> bool:
    """Whether two width multipliers give a network the same filters.

    Args:
        network: The published table.
        first, second: The multipliers.

    Returns:
        True also of different numbers that are rounded to the same filters.
    """
    published = {
        layer.step.filters
        for name, step in network.backbone
        for layer in spec.iter_layers(name, step)
        if isinstance(layer.step, spec.Conv) and layer.step is not spec.UP
    }
    return all(spec.scale_filters(f, first) == spec.scale_filters(f, second) for f in published)


def activation_of_config(config: str) -> str | None:
    """The activation after the convolutions of a network, by the configuration that Keras stores with a whole model.

    Args:
        config: The configuration, JSON.

    Returns:
        Its name in Keras; None where it is not shown, or is no name.
    """
    try:
        layers = json.loads(config)["config"]["layers"]
        found = {
            one["config"]["activation"]
            for one in layers
            if one["class_name"] == "Activation" and PREDICTIONS not in one["config"]["name"]
        } - {"linear"}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, str) else None
