# SPDX-License-Identifier: Apache-2.0
"""What a user says of a Keras model that was built elsewhere, without Keras."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HEADS", "SCALE_NAMES", "KerasOptions"]

# What a user says of a network's input → the name in SCALES.  `caffe` is that of keras.applications, whose means
# are not quite those of BVLC.
SCALE_NAMES = {
    "unit": "unit",
    "zero_one": "zero_to_one",
    "torch": "torch",
    "vgg": "vgg",
    "caffe": "keras_caffe",
    "none": "none",
}
HEADS = ("softmax", "sigmoid", "logits")


@dataclass(frozen=True)
class KerasOptions:
    """What a user says of a Keras model; None: as the model itself shows."""

    scale: str | None = None  # of the pixels that it takes, a name in SCALE_NAMES
    size: int | None = None  # height and width of its images, pixels
    head: str | None = None  # a name in HEADS: what its outputs are

    def given(self) -> tuple[str, ...]:
        """Returns the names of the options that were given."""
        return tuple(name for name, value in vars(self).items() if value is not None)
