# SPDX-License-Identifier: Apache-2.0
"""Figures 2 and 3 of the batch normalization paper: its five networks, and two that should fail, on one data set.

Ioffe and Szegedy 2015, arXiv 1502.03167, section 4.2.  Each variant is an ordinary run, `OUT/VARIANT`,
with the recipe of its name, on the same images in the same order, 32 per step, with the same seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inception_tf.config import Config
from inception_tf.experiments.short_runs import RunSettings, shortened
from inception_tf.experiments.variant_outcomes import BASELINE, chance_bound
from inception_tf.training.recipes import read_recipe

__all__ = [
    "Design",
    "FULL",
    "QUICK",
    "VARIANTS",
    "Variant",
    "make_design",
    "variant_config",
]


@dataclass(frozen=True)
class Variant:
    """A run of the experiment: a recipe and its changes."""

    name: str  # also of its folder
    recipe: str
    times: float = 1.0  # factor on the recipe's learning rate
    activation: str | None = None  # None: the recipe's


VARIANTS = (
    Variant("inception", "inception"),
    Variant("bn-baseline", "bn-baseline"),
    Variant("bn-x5", "bn-x5"),
    Variant("bn-x30", "bn-x30"),
    Variant("bn-x5-sigmoid", "bn-x5-sigmoid"),
    # Section 4.2.2 in words: parameters that reach infinity, and a network that stays at chance.
    Variant("inception-x5", "inception", times=5.0),
    Variant("inception-sigmoid", "inception", activation="sigmoid"),
)


FULL = {
    "steps": 15_000,
    "size": 64,
    "width": 1.0,
    "rate_factor": 1.5,
    "every": 500,
    "validation_images": 10_000,
}
QUICK = {
    "steps": 900,
    "size": 48,  # down to 33 the last feature map is 2x2, at 32 it is 1x1
    "width": 0.25,
    "rate_factor": 1.5,
    "every": 78,
    "validation_images": 2_000,
}


@dataclass(frozen=True)
class Design:
    """The settings resolved against their data."""

    setting: RunSettings
    configs: dict[str, Config]  # by the variants' names, in the order of training
    steps: int  # of each variant, in whole epochs
    images: dict[str, int]  # `train` and `validation`
    chance: float  # accuracy up to which a network counts as no better than chance


def make_design(setting: RunSettings) -> Design:
    """Opens the data and resolves the configuration of each variant.

    Args:
        setting: of all variants.

    Returns:
        The design.

    Raises:
        UserError: the data is missing, or a setting is out of range.
    """
    from inception_tf.data.sampling import steps_per_epoch
    from inception_tf.data.sources.open import open_source

    source = open_source(setting.data)
    train, validation = source.split("train"), source.split()
    steps = steps_per_epoch(train, read_recipe(BASELINE).data.batch_size)
    epochs = math.ceil(setting.steps / steps)
    return Design(
        setting,
        {variant.name: variant_config(variant, setting, epochs) for variant in VARIANTS},
        epochs * steps,
        {"train": len(train), "validation": len(validation)},
        chance_bound(np.bincount(validation.classes).tolist()),
    )


def variant_config(variant: Variant, setting: RunSettings, epochs: int) -> Config:
    """Makes the configuration of one variant: its recipe, scaled to the experiment.

    Args:
        variant: one of `VARIANTS`.
        setting: of all variants.
        epochs: the length of the training.

    Returns:
        The configuration.

    Raises:
        UserError: a setting is out of range.
    """
    recipe = read_recipe(variant.recipe)
    activation = variant.activation or recipe.model.activation
    return shortened(recipe, setting, epochs, times=variant.times, activation=activation)
