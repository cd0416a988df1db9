# SPDX-License-Identifier: Apache-2.0
"""The ranges of the color augmentation, those of slim's inception_preprocessing; without TensorFlow."""

from __future__ import annotations

__all__ = ["BRIGHTNESS", "CONTRAST", "HUE", "SATURATION"]

# slim inception_preprocessing.distort_color
BRIGHTNESS = 32.0  # added to pixels in [0, 255], at most
SATURATION = (0.5, 1.5)  # factor on HSV's S
HUE = 0.2  # rotation of HSV's H, as a fraction of a full circle, at most
CONTRAST = (0.5, 1.5)  # factor on the distance from each channel's mean
