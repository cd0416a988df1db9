# SPDX-License-Identifier: Apache-2.0
"""The door to the Model Garden's `official.vision.ops.augment`: its distortions, drawn from seeds.

Those classes draw from TensorFlow's stateful `tf.random`, so that no run could be repeated.  Here
their module is executed a second time, as a copy of our own, and the name `tf` of that copy is
TensorFlow with another `random`: its n-th draw is a function of the seed at hand and of n.  The
Garden's own module stays as it is, and a kind of draw that is not among ours fails while it is traced.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from contextvars import ContextVar
from dataclasses import dataclass

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
# The Garden's longest cut and longest move, pixels of an image of 224; a smaller image has them smaller.
LENGTHS = {"RandAugment": (40.0, 100.0), "AutoAugment": (100.0, 250.0)}
LENGTHS_SIZE = 224
# ImageNet's mean and deviation over all channels, of 255: two numbers, because TensorFlow takes ten
# times as long over three.
MEAN, DEVIATION = 114.5, 57.6
do_not_convert = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True)
class RandAugment:
    """(H, W, 3) float32 0..255 → whole numbers 0..255: `layers` of 16 operations, each at `magnitude` of 10.

    Cubuk et al. 2019, arXiv 1909.13719.  `UserError` where the Model Garden is not installed.
    """

    layers: int
    magnitude: float

    def __post_init__(self):
        _needed_by("data.auto_augment 'randaugment'")

    @do_not_convert
    def __call__(self, image, seed):
        return _distorted("RandAugment", image, seed, self.layers, self.magnitude)


@dataclass(frozen=True)
class AutoAugment:
    """(H, W, 3) float32 0..255 → whole numbers 0..255: one of the pairs of operations of a searched `policy`.

    Cubuk et al. 2018, arXiv 1805.09501.  `UserError` where the Model Garden is not installed.
    """

    policy: str

    def __post_init__(self):
        _needed_by("data.auto_augment 'autoaugment'")

    @do_not_convert
    def __call__(self, image, seed):
        return _distorted("AutoAugment", image, seed, self.policy)


@dataclass(frozen=True)
class RandomErasing:
    """(H, W, 3) float32 0..255 → the same, with a rectangle of 2 % to a third of it as noise, at `probability`.

    Zhong et al. 2017, arXiv 1708.04896.  The noise has ImageNet's mean and deviation, which is what
    the Garden's unit noise means on the standardized images it expects; it is clipped to 0..255.
    `UserError` where the Model Garden is not installed.
    """

    probability: float

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
    """(B, S, S, 3), (B, classes) one-hot → each image mixed with the one at the other end of the batch, labels alike.

    Zhang et al. 2017, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899.  The alphas are those of
    the beta distribution of the shares, 0 for none; with both, a batch gets one of them, by the toss
    of a coin.  `UserError` where the Model Garden is not installed.
    """

    classes: int
    mixup_alpha: float
    cutmix_alpha: float

    def __post_init__(self):
        _needed_by(f"data.{'mixup' if self.mixup_alpha else 'cutmix'}_alpha")

    @do_not_convert
    def __call__(self, images, labels, seed):
        with _drawing_from(seed):
            mixed, shared = _copy().MixupAndCutmix(
                self.classes, self.mixup_alpha, self.cutmix_alpha, label_smoothing=0.0
            )(images, tf.argmax(labels, axis=-1))
        return tf.ensure_shape(mixed, images.shape), tf.ensure_shape(shared, labels.shape)


def _distorted(name: str, image, seed, *arguments):
    """A policy of the Garden's on an image: its operations are for uint8, to which it would cut off, not round."""
    pixels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
    share = min(1.0, min(image.shape[:2]) / LENGTHS_SIZE)
    cutout, translation = (share * length for length in LENGTHS[name])
    with _drawing_from(seed):
        policy = getattr(_copy(), name)(
            *arguments, cutout_const=cutout, translate_const=translation
        )
        pixels = policy.distort(pixels)
    return tf.ensure_shape(tf.cast(pixels, image.dtype), image.shape)


class _Draws:
    """Seeds one after the other, each folded from the first with its number."""

    def __init__(self, seed):
        self.seed, self.count = seed, 0

    def next(self):
        self.count += 1
        return tf.random.experimental.stateless_fold_in(self.seed, self.count)


# The draws of the distortion that this thread is tracing.
_draws: ContextVar[_Draws] = ContextVar("draws")


@contextlib.contextmanager
def _drawing_from(seed):
    token = _draws.set(_Draws(seed))
    try:
        yield
    finally:
        _draws.reset(token)


class _SeededRandom:
    """`tf.random` for the copy: the three draws that its classes for images make, with their signatures."""

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
    """TensorFlow as the copy sees it."""

    random = _SeededRandom

    @staticmethod
    @do_not_convert
    def Assert(condition, data):
        """Nothing: the policies are the Garden's own, yet 50 checks of them would run for each image."""
        return tf.no_op()

    def __getattr__(self, name):
        return getattr(tf, name)


def _needed_by(setting: str) -> None:
    try:
        _copy()
    except ModuleNotFoundError as error:
        raise missing_package(setting, "tf-models-official", "train") from error


@functools.cache
def _copy():
    """The Garden's module as a copy of our own, in which every draw comes from `_draws`."""
    GARDEN.require("tf", "_cutmix", "_sample_from_beta")
    found = importlib.util.find_spec(MODULE)
    copy = importlib.util.module_from_spec(found)
    found.loader.exec_module(copy)
    copy.tf = _SeededTensorFlow()
    copy.MixupAndCutmix._cutmix = _cutmix
    return copy


def _cutmix(self, images, labels):
    """Cutmix for the copy, with labels shared as the pixels are.

    The Garden's counts the rectangle's part outside the image as pasted; the paper's section 3.1
    takes the share from what is seen.
    """
    count, height, width = (tf.shape(images)[axis] for axis in range(3))
    ratio = tf.sqrt(1.0 - self._sample_from_beta(self.cutmix_alpha, self.cutmix_alpha, [count]))

    def pasted(length):
        """(B, length) bool: the stretch around a random centre that lies inside the image."""
        half = tf.cast(ratio * tf.cast(length, tf.float32), tf.int32) // 2
        centre = _SeededRandom.uniform([count], 0, length, tf.int32)
        return tf.abs(2 * (tf.range(length) - centre[:, None]) + 1) < 2 * half[:, None]

    rows, columns = pasted(height), pasted(width)
    mask = rows[:, :, None, None] & columns[:, None, :, None]
    kept = 1.0 - _share(rows) * _share(columns)
    return tf.where(mask, tf.reverse(images, [0]), images), labels, kept


def _share(mask):
    return tf.reduce_mean(tf.cast(mask, tf.float32), axis=1)
