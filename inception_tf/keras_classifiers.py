# SPDX-License-Identifier: Apache-2.0
"""A classifier that was built and trained in Keras elsewhere: what it expects and gives, as it shows or as its user says."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from inception_tf.data.keras_options import HEADS, SCALE_NAMES, KerasOptions
from inception_tf.data.preprocessing import SCALES, Preprocessing
from inception_tf.errors import UserError, unknown
from inception_tf.inference.ends import PixelMap, head_activation, pixel_map
from inception_tf.inference.flatten import flatten
from inception_tf.weights.formats.keras_model import load_keras_model

__all__ = ["KerasClassifier", "read_keras_classifier"]

RAW = "none"
# Values of a normalized image span 1 (0 to 1), 2 (-1 to 1) or 4 to 5 (standard deviations) where pixels go from
# 0 to 255; where only a mean is subtracted, they span 255 around 0.
SPANS = (0.5, 8.0)
MEANS = (90.0, 140.0)
TOLERANCE = 1e-3  # of 255 levels, between a map in the network and a scale


@dataclass(frozen=True)
class KerasClassifier:
    """A Keras model as a classifier."""

    model: keras.Model  # (N, size, size, 3) floats as `preprocessing` says → (N, K) float32
    preprocessing: Preprocessing
    head: str  # `softmax`: each row is probabilities that sum to 1; `sigmoid`: each class by itself
    notes: tuple[
        str, ...
    ]  # sentences for the user: what was found in the model, and what follows from it


def read_keras_classifier(path: str, options: KerasOptions) -> KerasClassifier:
    """Loads a classifier of Keras' own layers, and settles what its images and its outputs are.

    Args:
        path: A `.keras` file, or an `.h5` file of `model.save`.
        options: What the user says; has to agree with what the model shows.

    Returns:
        The classifier: its images are resized as a whole, bilinearly, as Keras' own loaders do.

    Raises:
        UserError: The file is not safe or not a classifier of RGB images; what cannot be seen was not said; or what
            was said contradicts the model.
    """
    for name, value, allowed in (
        ("scale", options.scale, SCALE_NAMES),
        ("head", options.head, HEADS),
    ):
        if value is not None and value not in allowed:
            raise unknown(name, value, allowed)
    model = load_keras_model(path)
    size = _size(model, path, options.size)
    model = _at_size(model, size, path)
    scale, found = _scale(model, path, options.scale)
    head = _head(model, path, options.head)
    model, head = _with_probabilities(model, head, path)
    preprocessing = Preprocessing(size, None, scale)
    preprocessing.check()
    return KerasClassifier(
        model, preprocessing, head, (*found, "images are resized as a whole, bilinearly")
    )


def _size(model: keras.Model, path: str, given: int | None) -> int:
    inputs: list[keras.KerasTensor] = getattr(model, "inputs", None) or []
    shape: list[int | None] = list(inputs[0].shape) if len(inputs) == 1 else []
    if len(shape) != 4 or shape[3] != 3:
        takes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs) or "none that it names"
        raise UserError(
            f"'{path}' takes {takes}; a classifier of images takes one batch of RGB images, (N, H, W, 3)"
        )
    _, height, width, _ = shape
    if height != width and None not in (height, width):
        raise UserError(
            f"'{path}' takes images of {height}x{width} pixels; only square images are prepared"
        )
    fixed = height or width
    if fixed is None and given is None:
        raise UserError(
            f"'{path}' takes images of any size; say with --size which it was trained with"
        )
    if fixed is not None and given not in (None, fixed):
        raise UserError(f"'{path}' takes images of {fixed}x{fixed} pixels, and --size says {given}")
    return int(fixed or given or 0)


def _at_size(model: keras.Model, size: int, path: str) -> keras.Model:
    """The model without nested ones, for images of one size."""
    name = model.name
    if tuple(model.inputs[0].shape[1:3]) != (size, size):
        image = keras.Input((size, size, 3), name="image")
        try:
            model = keras.Model(image, model(image), name=name)
        except ValueError as error:
            reason = next(iter(str(error).splitlines()), "")
            raise UserError(
                f"'{path}' does not take images of {size}x{size} pixels ({reason})"
            ) from error
    model = flatten(model)
    output = model.output
    if isinstance(output, dict):
        output = output.get("predictions")
    if isinstance(output, list | tuple) and len(output) == 1:
        output = output[0]
    if not keras.utils.is_keras_tensor(output) or len(output.shape) != 2:
        raise UserError(
            f"'{path}' gives {model.output_shape}; a classifier gives one output (N, classes), alone or as 'predictions'"
        )
    return keras.Model(model.inputs[0], output, name=name)


def _scale(model: keras.Model, path: str, given: str | None) -> tuple[str, tuple[str, ...]]:
    """The name in SCALES of what is to be fed, and what to say of it."""
    inside = pixel_map(model)
    if inside is None:
        if given is None:
            raise UserError(
                f"'{path}' does not show which pixels it takes; say with --scale: unit (-1 to 1), zero_one (0 to 1),"
                " torch (ImageNet's mean and deviation), vgg (mean subtracted), caffe (BGR, mean subtracted) or none"
                " (0 to 255)"
            )
        return SCALE_NAMES[given], ()
    layers = ", ".join(inside.layers)
    if not _takes_raw(inside):
        if given is None:
            raise UserError(
                f"'{path}' begins with {layers}, which does not show whether pixels of 0 to 255 come before it; say"
                " with --scale what it takes"
            )
        return SCALE_NAMES[given], ()
    if given not in (None, RAW) and not _is_scale(inside, SCALE_NAMES[given]):
        raise UserError(
            f"'{path}' begins with {layers}, which scales pixels of 0 to 255 itself; --scale {given} before it would"
            " scale them twice: give --scale none"
        )
    return RAW, (f"{layers} in the model scales pixels itself: it is given 0 to 255",)


def _takes_raw(inside: PixelMap) -> bool:
    """Whether a map makes a normalized image of pixels from 0 to 255."""
    spans = [255 * abs(factor) for factor in inside.factor]
    if all(SPANS[0] <= span <= SPANS[1] for span in spans):
        return True
    return all(
        abs(factor - 1) < 1e-6 and MEANS[0] <= -offset <= MEANS[1]
        for factor, offset in zip(inside.factor, inside.offset, strict=True)
    )


def _is_scale(inside: PixelMap, name: str) -> bool:
    """Whether a map is one of SCALES."""
    scale = SCALES[name]
    mean, deviation = (
        np.broadcast_to(np.array(values, float), 3) for values in (scale.mean, scale.deviation)
    )
    pixels = np.array([[0.0], [255.0]])
    ours = pixels * np.array(inside.factor) + np.array(inside.offset)
    apart = np.abs(ours - (pixels - mean) / deviation)
    return inside.bgr == scale.bgr and bool(np.all(apart <= TOLERANCE * 255 / deviation))


def _head(model: keras.Model, path: str, given: str | None) -> str:
    shown = head_activation(model)
    if shown is None and given is None:
        raise UserError(
            f"the last layer of '{path}' does not show what its outputs are; say with --head: softmax (probabilities that"
            " sum to 1), sigmoid (each class by itself) or logits"
        )
    if shown is not None and given not in (None, shown):
        raise UserError(f"'{path}' ends in {shown}, and --head says {given}")
    return shown or str(given)


def _with_probabilities(model: keras.Model, head: str, path: str) -> tuple[keras.Model, str]:
    """The model with probabilities as outputs, two for a single sigmoid, and whether they sum to 1."""
    x = model.output
    if head == "logits":
        head = "sigmoid" if x.shape[-1] == 1 else "softmax"
        x = keras.layers.Activation(head, dtype="float32", name=f"{model.name}_{head}")(x)
    elif not _are_probabilities(model, head):
        raise UserError(
            f"'{path}' gives other values than {head} does; say with --head what they are"
        )
    if x.shape[-1] == 1:
        if head == "softmax":
            raise UserError(
                f"'{path}' has one class, whose softmax is always 1; give another model"
            )
        x = keras.layers.Activation("linear", dtype="float32", name=f"{model.name}_second")(x)
        x = keras.layers.Concatenate(dtype="float32", name=f"{model.name}_both")([1.0 - x, x])
        head = "softmax"
    if x is model.output:
        return model, head
    return keras.Model(model.inputs[0], x, name=model.name), head


def _are_probabilities(model: keras.Model, head: str) -> bool:
    """Whether the outputs for noise are what a head gives."""
    noise = np.random.default_rng(0).uniform(0, 1, (2, *model.inputs[0].shape[1:]))
    rows = keras.ops.convert_to_numpy(model(noise.astype("float32"), training=False))
    rows = rows.astype("float64")
    inside = bool(np.all((rows >= -1e-6) & (rows <= 1 + 1e-2)))
    return inside and (head == "sigmoid" or bool(np.all(np.abs(rows.sum(-1) - 1) < 1e-2)))
