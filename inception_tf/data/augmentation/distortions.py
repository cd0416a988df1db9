# SPDX-License-Identifier: Apache-2.0
"""Training augmentations: callables `(image, seed) -> image`, stateless, so that a run is reproducible pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from inception_tf.config import DataConfig
from inception_tf.data.augmentation import model_garden
from inception_tf.data.augmentation.color import COLOR_AUGMENTATIONS

__all__ = [
    "RandomResizedCrop",
    "Flip",
    "batch_distortions",
    "distort",
    "training_crop",
    "training_distortions",
]

Distortion = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
BatchDistortion = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

MAX_ATTEMPTS = 100  # slim inception_preprocessing


@dataclass(frozen=True)
class RandomResizedCrop:
    """The crop of a random resized crop, without the resizing: (H, W, C) → (h, w, C).

    Szegedy et al. 2014, section 6, as in slim's inception_preprocessing.
    """

    area: tuple[float, float]  # range of the crop's fraction of the image
    aspect: tuple[float, float]  # range of its width / height

    def sample(self, shape: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw a crop.

        Args:
            shape: (3,) int32, the shape of the image.
            seed: (2,) int.

        Returns:
            begin and size, (3,) int32, as `tf.slice` takes them: -1 for all channels.
        """
        whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            bounding_boxes=whole,
            seed=seed,
            min_object_covered=min(0.1, self.area[0]),
            aspect_ratio_range=self.aspect,
            area_range=self.area,
            max_attempts=MAX_ATTEMPTS,
        )
        return begin, size

    def __call__(self, image, seed):
        crop = tf.slice(image, *self.sample(tf.shape(image), seed))
        crop.set_shape((None, None, image.shape[-1]))
        return crop


@dataclass(frozen=True)
class Flip:
    """Horizontal flip of (H, W, C) with a probability of one half."""

    def __call__(self, image, seed):
        return tf.image.stateless_random_flip_left_right(image, seed)


def training_crop(config: DataConfig) -> RandomResizedCrop | None:
    """The random crop of each training image.

    Args:
        config: The `data` section of a configuration.

    Returns:
        The crop, or None for the whole image, where `data.box_area` is null.
    """
    return RandomResizedCrop(config.box_area, config.box_aspect) if config.box_area else None


def training_distortions(config: DataConfig) -> tuple[Distortion, ...]:
    """The augmentations between resizing and scaling, in the order of application.

    Args:
        config: The `data` section of a configuration.

    Returns:
        Callables with an image, (S, S, 3) float32 in [0, 255], and a seed, (2,) int, that return an image
        of the same shape, dtype and range.

    Raises:
        UserError: One needs the Model Garden, which is not installed.
    """
    flip = (Flip(),) if config.flip else ()
    color = () if config.photometric == "none" else (COLOR_AUGMENTATIONS[config.photometric](),)
    erasing = (model_garden.RandomErasing(config.random_erasing),) if config.random_erasing else ()
    return (*flip, *color, *_auto_augment(config), *erasing)


def batch_distortions(config: DataConfig) -> tuple[BatchDistortion, ...]:
    """The augmentations of whole batches, in the order of application.

    Args:
        config: The `data` section of a configuration.

    Returns:
        Callables with images (B, S, S, 3) float32, one-hot labels (B, classes) and a seed (2,) int, that
        return images and labels of the same shapes and dtypes; each label still sums to 1.

    Raises:
        UserError: One needs the Model Garden, which is not installed.
    """
    if not (config.mixup_alpha or config.cutmix_alpha):
        return ()
    return (model_garden.MixupAndCutmix(config.mixup_alpha, config.cutmix_alpha),)


def _auto_augment(config: DataConfig) -> tuple[Distortion, ...]:
    if config.auto_augment == "randaugment":
        return (model_garden.RandAugment(config.randaugment_layers, config.randaugment_magnitude),)
    if config.auto_augment == "autoaugment":
        return (model_garden.AutoAugment(config.autoaugment_policy),)
    return ()


def distort(distortions: tuple[Distortion, ...], image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Apply augmentations to an image.

    Args:
        distortions: What `training_distortions` returned.
        image: (S, S, 3) float32 in [0, 255].
        seed: (2,) int, from which each augmentation's seed is derived.

    Returns:
        An image of the same shape, dtype and range.
    """
    if distortions:
        seeds = tf.random.experimental.stateless_split(seed, len(distortions))
        for index, distortion in enumerate(distortions):
            image = distortion(image, seeds[index])
    return image
