# SPDX-License-Identifier: Apache-2.0
"""The augmentations of the Model Garden's `official.vision.ops.augment`, with stateless randomness.

Those classes draw from TensorFlow's stateful `tf.random`, which makes a run irreproducible.  Here their
module is executed a second time as a private copy, in which the name `tf` is TensorFlow with another
`random`: its n-th draw is a function of the current seed and n.  The original module is unchanged, and
an unsupported kind of draw fails during tracing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from inception_tf.errors import missing_package
from inception_tf.host.private_names import PrivateName, PrivateNames

__all__ = ["AutoAugment", "MixupAndCutmix", "RandAugment", "RandomErasing"]

MODULE = "official.vision.ops.augment"
GARDEN = PrivateNames(
    "tf-models-official>=2.20,<2.21",
    (
        PrivateName(MODULE, "tf", "distortions drawn from seeds"),
        PrivateName(f"{MODULE}.MixupAndCutmix", "_cutmix", "cutmix"),
        PrivateName(f"{MODULE}.MixupAndCutmix", "_sample_from_beta", "cutmix"),
    ),
)
# The Garden's largest cutout and translation in pixels at 224 pixels; proportionally less on smaller images.
LENGTHS = {"RandAugment": (40.0, 100.0), "AutoAugment": (100.0, 250.0)}
LENGTHS_SIZE = 224
# ImageNet's mean and standard deviation in [0, 255] over all channels together: ten times as fast as
# one per channel.
MEAN, DEVIATION = 114.5, 57.6
do_not_convert = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True)
class RandAugment:
    """`layers` random operations out of 16: (H, W, 3) float32 in [0, 255] → integers in [0, 255] as float32.

    Creating it raises a `UserError` if the Model Garden is not installed.  Cubuk et al. 2019, arXiv 1909.13719.
    """

    layers: int  # operations per image
    magnitude: float  # of each operation, in [0, 10]

    def __post_init__(self):
        _needed_by("data.auto_augment 'randaugment'")

    @do_not_convert
    def __call__(self, image, seed):
        return _distorted("RandAugment", image, seed, self.layers, self.magnitude)


@dataclass(frozen=True)
class AutoAugment:
    """A random pair of operations of a learned policy: (H, W, 3) float32 in [0, 255] → integers in [0, 255] as float32.

    Creating it raises a `UserError` if the Model Garden is not installed.  Cubuk et al. 2018, arXiv 1805.09501.
    """

    policy: str  # a name of the Garden's, such as "v0"

    def __post_init__(self):
        _needed_by("data.auto_augment 'autoaugment'")

    @do_not_convert
    def __call__(self, image, seed):
        return _distorted("AutoAugment", image, seed, self.policy)


@dataclass(frozen=True)
class RandomErasing:
    """Noise in a random rectangle of 2 % to a third of the image: (H, W, 3) float32 in [0, 255], and the same back.

    The noise has ImageNet's mean and deviation, as the Garden's unit noise has on the standardized images
    that it expects; it is clipped to [0, 255].  Creating it raises a `UserError` if the Model Garden is not
    installed.  Zhong et al. 2017, arXiv 1708.04896.
    """

    probability: float  # that an image is changed, in [0, 1]

    def __post_init__(self):
        _needed_by("data.random_erasing")

    @do_not_convert
    def __call__(self, image, seed):
        with _drawing_from(seed):
            # A fresh object for each trace: its `tf.function` would keep the seed of the first one.
            erasing = _copy().RandomErasing(self.probability)
            erased = erasing.distort((image - MEAN) / DEVIATION)
        erased = tf.clip_by_value(erased * DEVIATION + MEAN, 0.0, 255.0)
        return tf.ensure_shape(erased, image.shape)


@dataclass(frozen=True)
class MixupAndCutmix:
    """Mixup or cutmix of each image with the one at the opposite position of the batch, and of their labels.

    Images are (B, S, S, 3), labels (B, classes) one-hot or multi-label.  With both alphas, each batch gets one of the two at
    random.  Creating it raises a `UserError` if the Model Garden is not installed.  Zhang et al. 2017, arXiv
    1710.09412; Yun et al. 2019, arXiv 1905.04899.
    """

    mixup_alpha: float  # of the beta distribution of the mixing ratios; 0 for no mixup
    cutmix_alpha: float  # likewise; 0 for no cutmix

    def __post_init__(self):
        _needed_by(f"data.{'mixup' if self.mixup_alpha else 'cutmix'}_alpha")

    @do_not_convert
    def __call__(self, images, labels, seed):
        # The Garden takes one class for each image.  With the first half of the batch in one class and its partners in
        # another, the result says how much of each image is its own, whatever the labels are.
        count = tf.shape(images)[0]
        half = tf.cast(2 * tf.range(count) >= count, tf.int32)
        with _drawing_from(seed):
            mixed, parts = _copy().MixupAndCutmix(
                2, self.mixup_alpha, self.cutmix_alpha, label_smoothing=0.0
            )(images, half)
        kept = tf.gather(parts, half, batch_dims=1)[:, tf.newaxis]
        shared = kept * labels + (1 - kept) * tf.reverse(labels, [0])
        return tf.ensure_shape(mixed, images.shape), tf.ensure_shape(shared, labels.shape)


def _distorted(name: str, image: tf.Tensor, seed: tf.Tensor, *arguments: float | str) -> tf.Tensor:
    """Apply a policy of the Garden's; its operations expect uint8, to which it would truncate instead of rounding."""
    pixels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
    scale = min(1.0, min(image.shape[:2]) / LENGTHS_SIZE)
    cutout, translation = (scale * length for length in LENGTHS[name])
    with _drawing_from(seed):
        policy = getattr(_copy(), name)(
            *arguments, cutout_const=cutout, translate_const=translation
        )
        pixels = policy.distort(pixels)
    return tf.ensure_shape(tf.cast(pixels, image.dtype), image.shape)


class _Draws:
    """A sequence of seeds, each folded from the first with its number."""

    def __init__(self, seed):
        self.seed, self.count = seed, 0

    def next(self):
        self.count += 1
        return tf.random.experimental.stateless_fold_in(self.seed, self.count)


# The draws of the augmentation that this thread is tracing.
_draws: ContextVar[_Draws] = ContextVar("draws")


@contextlib.contextmanager
def _drawing_from(seed):
    token = _draws.set(_Draws(seed))
    try:
        yield
    finally:
        _draws.reset(token)


class _SeededRandom:
    """`tf.random` for the copy: the three kinds of draws that its image classes use, with their signatures."""

    @staticmethod
    @do_not_convert
    def uniform(shape, minval=0, maxval=None, dtype=tf.float32):
        return tf.random.stateless_uniform(shape, _draws.get().next(), minval, maxval, dtype)

    @staticmethod
    @do_not_convert
    def normal(shape, mean=0.0, stddev=1.0, dtype=tf.float32):
        return tf.random.stateless_normal(shape, _draws.get().next(), mean, stddev, dtype)

    @staticmethod
    @do_not_convert
    def gamma(shape, alpha, beta=None, dtype=tf.float32):
        return tf.random.stateless_gamma(shape, _draws.get().next(), alpha, beta, dtype)


class _SeededTensorFlow:
    """TensorFlow for the copy."""

    random = _SeededRandom

    @staticmethod
    @do_not_convert
    def Assert(condition, data):
        """No operation: the policies are the Garden's and valid, but 50 checks would run for each image."""
        return tf.no_op()

    def __getattr__(self, name):
        return getattr(tf, name)


def _needed_by(setting: str) -> None:
    try:
        _copy()
    except ModuleNotFoundError as error:
        raise missing_package(setting, "tf-models-official", "train") from error


@functools.cache
def _copy() -> Any:
    """A private copy of the Garden's module, in which every draw comes from `_draws`."""
    GARDEN.require("tf", "_cutmix", "_sample_from_beta")
    found = importlib.util.find_spec(MODULE)
    if found is None or found.loader is None:
        raise ModuleNotFoundError(f"No module named '{MODULE}'", name=MODULE)
    copy: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(copy)
    copy.tf = _SeededTensorFlow()
    copy.MixupAndCutmix._cutmix = _cutmix
    return copy


def _cutmix(self, images, labels):
    """Cutmix for the copy, with labels mixed by the visible pixels.

    The Garden also counts the part of the rectangle outside of the image; the paper's section 3.1 does not.
    """
    count, height, width = (tf.shape(images)[axis] for axis in range(3))
    ratio = tf.sqrt(1.0 - self._sample_from_beta(self.cutmix_alpha, self.cutmix_alpha, [count]))

    def pasted(length):
        """(B, length) bool: the part of the interval around a random center that lies inside the image."""
        half = tf.cast(ratio * tf.cast(length, tf.float32), tf.int32) // 2
        center = _SeededRandom.uniform([count], 0, length, tf.int32)
        return tf.abs(2 * (tf.range(length) - center[:, None]) + 1) < 2 * half[:, None]

    rows, columns = pasted(height), pasted(width)
    mask = rows[:, :, None, None] & columns[:, None, :, None]
    kept = 1.0 - _fraction(rows) * _fraction(columns)
    return tf.where(mask, tf.reverse(images, [0]), images), labels, kept


def _fraction(mask):
    return tf.reduce_mean(tf.cast(mask, tf.float32), axis=1)
