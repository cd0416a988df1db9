# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that a network's weights expect, without TensorFlow."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from inception_tf.config import DataConfig
from inception_tf.errors import UserError, unknown
from inception_tf.host.json_fields import from_json
from inception_tf.ranges import Range

__all__ = [
    "BILINEAR",
    "INTERPOLATIONS",
    "SCALES",
    "Preprocessing",
    "Resampling",
    "Scale",
    "preprocessing_of_run",
]


@dataclass(frozen=True)
class Scale:
    """Standardization (pixel - mean) / deviation of pixels in [0, 255]; one number for all channels, or three."""

    mean: float | tuple[float, float, float]
    deviation: float | tuple[float, float, float] = 1.0
    bgr: bool = False  # channels, and those of the mean, in the order blue, green, red


SCALES = {
    # slim, keras.applications, timm's tf_: -1 to 1.
    "unit": Scale(127.5, 127.5),
    # Many people's own Keras networks, after `Rescaling(1 / 255)`: 0 to 1.
    "zero_to_one": Scale(0.0, 255.0),
    # torchvision's ImageNet statistics, 0.485 ... and 0.229 ... of 255.
    "torch": Scale((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # slim's VGG: mean subtraction, as in research/slim/preprocessing/vgg_preprocessing.py.
    "vgg": Scale((123.68, 116.78, 103.94)),
    # BVLC's models: blue first, ImageNet's mean subtracted.
    "caffe": Scale((104.0, 117.0, 123.0), bgr=True),
    # keras.applications' mode "caffe", of its ResNet and VGG.
    "keras_caffe": Scale((103.939, 116.779, 123.68), bgr=True),
    # Networks that scale pixels themselves.
    "none": Scale(0.0, 1.0),
    # The graph of 2015-12-05, which FID and the Inception score are defined by: Sub(128), Mul(1 / 128).
    "fid": Scale(128.0, 128.0),
}
INTERPOLATIONS = ("bilinear", "bicubic")
MOST_SIDE = 8192  # pixels, of what a file may ask for
BITS = Range(8, 16)
NOT_GEOMETRY = ("size", "scale", "bits")  # fields of a preprocessing


@dataclass(frozen=True)
class Resampling:
    """How pixels are computed when an image is resized."""

    interpolation: str = "bilinear"  # or bicubic
    # Each pixel is a mean over all pixels that it covers, as in Pillow, which torchvision and timm resize with.
    antialias: bool = False
    # False: TensorFlow 1's `resize_bilinear`, which puts the centers of pixels at their upper left corners.
    half_pixel_centers: bool = True

    def __str__(self) -> str:
        centers = "" if self.half_pixel_centers else ", TensorFlow 1's pixel centers"
        return f"{self.interpolation}{', antialiased' if self.antialias else ''}{centers}"


BILINEAR = Resampling()


@dataclass(frozen=True)
class Preprocessing:
    """How an image is cropped, resized and scaled for evaluation.

    One of three rules gives the square of `size` pixels: `shorter` resizes the shorter side and keeps the aspect
    ratio, `stored` resizes both sides to one length, and both then cut out the center; without them the central
    fraction `crop` of each side is cut out first and then resized, whatever its aspect ratio.
    """

    size: int  # pixels, height and width
    crop: float | None = 0.875  # fraction of each side that is kept; None: the whole image
    scale: str = "unit"  # a name in SCALES
    interpolation: str = "bilinear"  # a name in INTERPOLATIONS
    stored: int | None = None  # pixels of both sides before the crop: Caffe's data sets
    shorter: int | None = (
        None  # pixels of the shorter side before the crop: torchvision, timm, slim's VGG
    )
    antialias: bool = False
    half_pixel_centers: bool = True
    bits: int = 16  # that samples of 16 bits use

    @classmethod
    def from_json(cls, values: Any) -> Preprocessing:
        """Builds the preprocessing that a file states.

        Args:
            values: Field → value, as `json.loads` returned them.

        Returns:
            The preprocessing.

        Raises:
            TypeError: They are not its fields, or of other types.
            UserError: They are not allowed.
        """
        made = from_json(cls, values, "the preprocessing")
        made.check()
        for name in ("size", "shorter", "stored"):
            if (getattr(made, name) or 0) > MOST_SIDE:
                raise UserError(f"{name} must be at most {MOST_SIDE}, got {getattr(made, name)}")
        return made

    @property
    def resampling(self) -> Resampling:
        """How pixels are computed."""
        return Resampling(self.interpolation, self.antialias, self.half_pixel_centers)

    @property
    def rule(self) -> str:
        """The resize rule and the crop in words."""
        if self.shorter:
            return f"shorter side {self.shorter}, center crop"
        if self.stored:
            return f"both sides {self.stored}, center crop"
        return "whole image" if self.crop in (None, 1.0) else f"central {self.crop:g} of each side"

    def geometry(self) -> dict[str, Any]:
        """The fields that decide which pixels of an image are used, without size, scale and bits.

        Returns:
            Field → value, of those that differ from their defaults.
        """
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in NOT_GEOMETRY and getattr(self, field.name) != field.default
        }

    def at_size(self, size: int) -> Preprocessing:
        """The same preprocessing for a network of another input size.

        Args:
            size: Height and width in pixels.

        Returns:
            The preprocessing with the sides before the crop in proportion.
        """
        sides = {
            name: round(value * size / self.size)
            for name in ("shorter", "stored")
            if (value := getattr(self, name))
        }
        return dataclasses.replace(self, size=size, **sides)

    def check(self) -> None:
        """Checks that the values are allowed, and fit each other.

        Raises:
            UserError: They do not.
        """
        for name in ("size", "shorter", "stored"):
            value = getattr(self, name)
            if name != "size" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
                raise UserError(f"{name} must be an integer of at least 1, got {value!r}")
            if value < self.size:
                raise UserError(
                    f"{name} must be at least size, {self.size} pixels, got {value}: the center is cut out of it"
                )
        crop = self.crop
        if crop is not None and not (
            isinstance(crop, int | float) and not isinstance(crop, bool) and 0 < crop <= 1
        ):
            raise UserError(
                f"crop must be in (0, 1], a fraction of each side, or None, got {crop!r}"
            )
        if self.shorter and self.stored:
            raise UserError("the preprocessing has both shorter and stored; give one of them")
        if self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        BITS.check("bits", self.bits)
        for name in ("antialias", "half_pixel_centers"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if not self.half_pixel_centers and (self.antialias or self.interpolation != "bilinear"):
            raise UserError(
                "half_pixel_centers=False is TensorFlow 1's resize_bilinear: bilinear and without antialias"
            )

    def __str__(self) -> str:
        bits = "" if self.bits == 16 else f", {self.bits} of 16 bits"
        return (
            f"{self.size}x{self.size}, {self.rule}, {self.resampling}, scale '{self.scale}'{bits}"
        )


def preprocessing_of_run(data: DataConfig, size: int) -> Preprocessing:
    """How the evaluation of a run prepares images.

    Args:
        data: The `data` section of its configuration.
        size: Height and width of the network's images, pixels.

    Returns:
        The preprocessing; its scale is the one that this package trains with.

    Raises:
        UserError: `data.preprocessing` has an unknown field, or a value that is not allowed.
    """
    if not data.preprocessing:
        return Preprocessing(size, data.crop, bits=data.bits)
    known = [f.name for f in dataclasses.fields(Preprocessing) if f.name not in NOT_GEOMETRY]
    for name in data.preprocessing:
        if name not in known:
            raise unknown("key in data.preprocessing", str(name), known)
    made = Preprocessing(size, **data.preprocessing, bits=data.bits)
    made.check()
    return made
