# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that a network's weights expect, without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCALES", "Preprocessing", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Standardization (pixel - mean) / deviation of pixels in [0, 255]; one number for all channels, or three."""

    mean: float | tuple[float, float, float]
    deviation: float | tuple[float, float, float] = 1.0
    bgr: bool = False  # channels, and those of the mean, in the order blue, green, red


SCALES = {
    # slim, keras.applications, timm's tf_: -1 to 1.
    "unit": Scale(127.5, 127.5),
    # torchvision's ImageNet statistics, 0.485 ... and 0.229 ... of 255.
    "torch": Scale((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # slim's VGG: mean subtraction, as in research/slim/preprocessing/vgg_preprocessing.py.
    "vgg": Scale((123.68, 116.78, 103.94)),
    # BVLC's models: blue first, ImageNet's mean subtracted.
    "caffe": Scale((104.0, 117.0, 123.0), bgr=True),
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image is cropped, resized and scaled for evaluation."""

    size: int  # pixels, height and width
    crop: float | None = 0.875  # fraction of each side that is kept; None: the whole image
    scale: str = "unit"  # a name in SCALES
    interpolation: str = "bilinear"  # as tf.image.resize names it
    # Pixels that Caffe's data sets were stored at: longer sides are shortened to it, then the central `size`
    # pixels are cropped, in place of `crop`.
    stored: int | None = None

    def __str__(self) -> str:
        cut = f"out of {self.stored}x{self.stored}" if self.stored else f"crop {self.crop}"
        return f"{self.size}x{self.size}, {cut}, scale '{self.scale}'"
