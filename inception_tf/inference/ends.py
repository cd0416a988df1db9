# SPDX-License-Identifier: Apache-2.0
"""Both ends of a network: what it does to its pixels before anything else, and its classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from inception_tf.errors import UserError

__all__ = ["PixelMap", "classifier_input", "head_activation", "pixel_map"]

# What passes its input on unchanged in inference, or changes only its form.
PASSED = (
    *("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("ActivityRegularization", "Flatten", "Reshape", "Identity", "Cast", "Squeeze"),
)
# Layers and operations that treat each pixel alone, move pixels, or augment in training; and have no trained weights.
ON_PIXELS = (
    *("Rescaling", "Normalization", "Identity", "Cast", "Resizing", "CenterCrop", "Concatenate"),
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "GetItem", "Flip", "Take"),
    *("Stack", "Split", "Unstack", "GaussianNoise", "CutMix", "MixUp", "AugMix", "RandAugment"),
)
AUGMENTATION = ("Random", "GaussianNoise", "CutMix", "MixUp", "AugMix", "RandAugment")
TOLERANCE = 1e-4  # of the span of the outputs: two values of one pixel must lie on a line
FUNCTIONS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class PixelMap:
    """What a network computes of each pixel (r, g, b) first: factor * pixel + offset, and perhaps the order b, g, r."""

    factor: tuple[float, float, float]  # by output channel
    offset: tuple[float, float, float]
    bgr: bool
    layers: tuple[str, ...]  # names, in order


def classifier_input(model: keras.Model) -> keras.KerasTensor:
    """Finds the vector that a classifier is computed from: the input of the last layer that has weights.

    Args:
        model: A functional model without nested models, (N, H, W, C) → (N, K).

    Returns:
        A tensor (N, D), or (N, 1, 1, D) before a 1x1 convolution.

    Raises:
        UserError: No such layer ends the network.
    """
    made = _producers(model)
    operation = made.get(id(model.output))
    while operation is not None and not getattr(operation, "weights", ()):
        inputs = keras.tree.flatten(operation.input)
        operation = made.get(id(inputs[0])) if len(inputs) == 1 else None
    kinds = (keras.layers.Dense, keras.layers.Conv2D)
    if not isinstance(operation, kinds) or not _is_vector(operation.input):
        raise UserError(
            f"'{model.name}' does not end in a dense layer, whose input would be its features; name a layer with --endpoint"
        )
    tensor = operation.input
    while (before := made.get(id(tensor))) is not None and type(before).__name__.endswith(
        "Dropout"
    ):
        tensor = before.input
    return tensor


def head_activation(model: keras.Model) -> str | None:
    """Tells what the outputs of a classifier are, as its last layer says.

    Args:
        model: A functional model without nested models, (N, H, W, C) → (N, K).

    Returns:
        `softmax` or `sigmoid` where that was applied last, `logits` where a dense layer or a convolution without
        activation is last; None where the last layer does not say it.
    """
    made = _producers(model)
    operation = made.get(id(model.output))
    while operation is not None:
        kind = type(operation).__name__
        if kind.lower() in FUNCTIONS:
            return kind.lower()
        activation = getattr(operation, "activation", None)
        if activation in (keras.activations.softmax, keras.activations.sigmoid):
            return str(activation.__name__)
        if isinstance(operation, keras.layers.Dense | keras.layers.Conv2D):
            return "logits" if activation is keras.activations.linear else None
        is_linear = kind == "Activation" and activation is keras.activations.linear
        inputs = keras.tree.flatten(operation.input)
        if not (is_linear or kind in PASSED) or len(inputs) != 1:
            return None
        operation = made.get(id(inputs[0]))
    return None


def pixel_map(model: keras.Model) -> PixelMap | None:
    """Measures the preprocessing inside a network: the layers without weights that its input passes through first.

    The layers are run on images of one color, so that it does not matter how they are written.

    Args:
        model: A functional model without nested models, with one input (N, H, W, 3).

    Returns:
        The map of each pixel; None where the network begins with a layer that has weights, or with one that changes
        nothing of an image of one color, such as an augmentation.

    Raises:
        UserError: What the network begins with is no map of single pixels.
    """
    (image,) = model.inputs
    pixels = {id(image): image}  # tensors that are made of the image by such layers alone
    names: list[str] = []
    ends: dict[int, Any] = {}  # those that other layers read
    for operation in model.operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        inputs = keras.tree.flatten(operation.input)
        if _is_on_pixels(operation) and all(id(tensor) in pixels for tensor in inputs):
            pixels |= {id(tensor): tensor for tensor in keras.tree.flatten(operation.output)}
            if not type(operation).__name__.startswith(AUGMENTATION):
                names.append(operation.name)
        else:
            ends |= {id(tensor): tensor for tensor in inputs if id(tensor) in pixels}
    if list(ends) in ([], [id(image)]):
        return None
    scaled = list(ends.values())
    if len(scaled) > 1 or len(scaled[0].shape) != 4 or scaled[0].shape[3] != 3:
        raise _no_map(model, names)
    found = _measured(keras.Model(image, scaled[0], name=model.name), names)
    unchanged = np.allclose(found.factor, 1, rtol=1e-6) and not np.any(found.offset)
    return None if unchanged and not found.bgr else found


def _measured(prefix: keras.Model, names: list[str]) -> PixelMap:
    side = [size or 64 for size in prefix.inputs[0].shape[1:3]]
    black, gray = np.zeros(3), np.full(3, 100.0)
    colors = np.array([black, gray, *(200.0 * np.eye(3))])
    images = np.broadcast_to(colors[:, None, None], (len(colors), *side, 3)).astype("float32")
    outputs = keras.ops.convert_to_numpy(prefix(images, training=False)).astype("float64")
    middle = outputs[:, outputs.shape[1] // 2, outputs.shape[2] // 2]
    offset, slopes = middle[0], (middle[2:] - middle[0]) / 200.0  # (color, channel)
    span = max(np.abs(slopes).max() * 255, 1e-12)
    is_flat = np.abs(outputs - middle[:, None, None]).max() <= TOLERANCE * span
    is_line = np.abs(offset + 100.0 * slopes.sum(0) - middle[1]).max() <= TOLERANCE * span
    for bgr in (False, True):
        matrix = slopes[::-1] if bgr else slopes
        factor = np.diagonal(matrix)
        is_diagonal = np.abs(matrix - np.diag(factor)).max() * 255 <= TOLERANCE * span
        if is_flat and is_line and is_diagonal:
            return PixelMap(tuple(factor), tuple(offset), bgr, tuple(names))
    raise _no_map(prefix, names)


def _no_map(model: keras.Model, names: list[str]) -> UserError:
    return UserError(
        f"'{model.name}' begins with {', '.join(names)}, which do not scale each pixel by itself; take them out of the"
        " model, and say with --scale what the rest expects"
    )


def _producers(model: keras.Model) -> dict[int, Any]:
    """The operation that each tensor of a graph comes from, by the tensor's id."""
    found: dict[int, Any] = {}
    for operation in model.operations:
        for tensor in keras.tree.flatten(operation.output):
            found[id(tensor)] = operation
    return found


def _is_on_pixels(operation: Any) -> bool:
    kind = type(operation).__name__
    return kind in ON_PIXELS or kind.startswith(AUGMENTATION)


def _is_vector(tensor: Any) -> bool:
    return keras.utils.is_keras_tensor(tensor) and tuple(tensor.shape[1:-1]) in ((), (1, 1))
