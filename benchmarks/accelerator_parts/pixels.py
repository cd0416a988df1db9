# SPDX-License-Identifier: Apache-2.0
"""Crops, flips, colors and evaluation's pixels for whole batches in `keras.ops`, after `inception_tf/data`."""

from __future__ import annotations

from typing import Any

import numpy as np


def resize_matrix(begin: Any, extent: Any, size: int, source: int) -> Any:
    """Bilinear interpolation along one axis of a crop, as `tf.image.resize` computes it from the crop alone.

    Args:
        begin: (B,) first pixel of the crop.
        extent: (B,) its pixels.
        size: Pixels of the result.
        source: Pixels of the image.

    Returns:
        (B, size, source) float32.
    """
    from keras import ops

    begin, extent = (ops.cast(x, "float32")[:, None] for x in (begin, extent))
    places = (ops.arange(size, dtype="float32")[None] + 0.5) * extent / size - 0.5
    places = begin + ops.clip(places, 0.0, extent - 1)
    pixels = ops.arange(source, dtype="float32")
    return ops.maximum(0.0, 1.0 - ops.abs(places[..., None] - pixels))


def resized(images: Any, rows: Any, columns: Any) -> Any:
    """(B, H, W, 3) float32, by two matrices of each image → (B, S, S, 3)."""
    from keras import ops

    return ops.einsum("bjw,biwc->bijc", columns, ops.einsum("bih,bhwc->biwc", rows, images))


def evaluation_images(images: Any, size: int, crop: float) -> Any:
    """The central fraction `crop` of (B, H, H, 3) uint8, resized: (B, size, size, 3) float32 in [-1, 1]."""
    from keras import ops

    source = images.shape[1]
    # As tf.image.central_crop rounds.
    begin = int((source - source * crop) / 2)
    matrix = resize_matrix(np.array([begin]), np.array([source - 2 * begin]), size, source)
    matrix = ops.repeat(matrix, images.shape[0], 0)
    return resized(ops.cast(images, "float32"), matrix, matrix) / 127.5 - 1


def crop_boxes(draws: Any, source: int, area: tuple, aspect: tuple) -> tuple[Any, Any, Any, Any]:
    """Random crops, drawn as TensorFlow's sample_distorted_bounding_box does: the aspect ratio, then the height.

    Args:
        draws: (B, 4) in [0, 1).
        source: Height and width of the images, pixels.
        area: Range of the crop's fraction of the image.
        aspect: Range of its width / height.

    Returns:
        Top, height, left and width, (B,) float32 integers.
    """
    from keras import ops

    ratio = aspect[0] + (aspect[1] - aspect[0]) * draws[:, 0]
    low, high = (ops.round(ops.sqrt(part * source**2 / ratio)) for part in area)
    high = ops.minimum(high, ops.floor(ops.minimum(float(source), (source + 0.49) / ratio)))
    low = ops.minimum(low, high)
    height = low + ops.floor(draws[:, 1] * (high - low + 1))
    width = ops.clip(ops.round(height * ratio), 1.0, float(source))
    top = ops.floor(draws[:, 2] * (source - height + 1))
    left = ops.floor(draws[:, 3] * (source - width + 1))
    return top, height, left, width


def recolored(images: Any, draws: Any, kind: str) -> Any:
    """The color augmentation of `data.photometric`, with the operations and orders of `data/augmentation/color.py`.

    Args:
        images: (B, S, S, 3) float32 in [0, 255].
        draws: (B, 5) in [0, 1): brightness, saturation, hue, contrast, and the order.
        kind: full, reduced or none.

    Returns:
        Images of the same shape, dtype and range.
    """
    from keras import ops

    from inception_tf.data.augmentation import color_ranges as ranges

    if kind == "none":
        return images

    def between(index, low, high):
        return (low + (high - low) * draws[:, index])[:, None, None, None]

    def in_hsv(x, change):
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(x), 3, -1)
        return ops.image.hsv_to_rgb(ops.concatenate([*change(hue, saturation), value], -1))

    def brightness(x):
        return x + between(0, -ranges.BRIGHTNESS, ranges.BRIGHTNESS)

    def saturation(x):
        factor = between(1, *ranges.SATURATION)
        return in_hsv(x, lambda hue, s: (hue, ops.clip(s * factor, 0.0, 1.0)))

    def hue(x):
        turn = between(2, -ranges.HUE, ranges.HUE)
        return in_hsv(x, lambda h, s: (ops.mod(h + turn, 1.0), s))

    def contrast(x):
        mean = ops.mean(x, (1, 2), keepdims=True)
        return mean + (x - mean) * between(3, *ranges.CONTRAST)

    orders = {
        "full": (
            (brightness, saturation, hue, contrast),
            (saturation, brightness, contrast, hue),
            (contrast, hue, brightness, saturation),
            (hue, saturation, contrast, brightness),
        ),
        "reduced": ((brightness, saturation), *((saturation, brightness),) * 3),
    }[kind]
    number = ops.cast(draws[:, 4] * 4, "int32")[:, None, None, None]
    result, computed = images, {}
    for place, order in enumerate(orders):
        if order not in computed:
            x = images
            for step in order:
                x = step(x)
            computed[order] = x
        result = ops.where(number == place, computed[order], result)
    return ops.clip(result, 0.0, 255.0)


def training_images(images: Any, draws: Any, size: int, data: Any) -> Any:
    """Augmented images of a recipe.

    Args:
        images: (B, H, H, 3) uint8.
        draws: (B, 10) in [0, 1).
        size: Pixels of the result.
        data: The `data` section of the configuration.

    Returns:
        (B, size, size, 3) float32 in [-1, 1].
    """
    from keras import ops

    source = images.shape[1]
    top, height, left, width = crop_boxes(draws[:, :4], source, data.box_area, data.box_aspect)
    rows = resize_matrix(top, height, size, source)
    columns = resize_matrix(left, width, size, source)
    if data.flip:
        columns = ops.where(draws[:, 4, None, None] < 0.5, ops.flip(columns, 1), columns)
    pixels = resized(ops.cast(images, "float32"), rows, columns)
    return recolored(pixels, draws[:, 5:], data.photometric) / 127.5 - 1
