# SPDX-License-Identifier: Apache-2.0
"""Figures 2 and 3 of the batch normalization paper: its five networks, and two that should fail, on one data set.

Ioffe and Szegedy 2015, arXiv 1502.03167, section 4.2.  Each variant is an ordinary run, `OUT/VARIANT`,
with the recipe of its name, on the same images in the same order, 32 per step, with the same seed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.experiments.variant_outcomes import BASELINE, ENDED, chance_bound
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.run_folder import Run
from inception_tf.training.recipes import read_recipe

__all__ = [
    "Design",
    "FULL",
    "QUICK",
    "RULE",
    "VARIANTS",
    "Variant",
    "VariantSettings",
    "make_design",
    "train_variants",
    "variant_config",
]

RULE = (
    "every learning rate is the paper's times one factor, and falls over the run as far as the paper's fell"
    " in six million steps, 150 passes over ImageNet"
)


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


@dataclass(frozen=True)
class VariantSettings:
    """The settings that all variants share."""

    data: str  # a source's name
    steps: int  # of each variant, rounded up to whole epochs
    size: int  # pixels, height and width
    width: float  # factor on every convolution's filters
    rate_factor: float  # on every learning rate of the paper
    every: int  # steps between two measurements of accuracy
    validation_images: int  # at most, to measure it on
    seed: int = 0


# Fraction of the image that a training crop covers, 0.05 to 1 in the recipes: 0.05 of 64 x 64 pixels is 14 x 14.
BOX_AREA = (0.25, 1.0)
# Epochs on ImageNet in the six million steps that BN-x30 needs for its 74.8 % (section 4.2.2).
PAPER_EPOCHS = 6e6 * 32 / 1_281_167
# Of the moving statistics; slim's 0.9997 averages over 3,300 steps, more than a short run has.
STATISTICS_MOMENTUM = 0.95

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

    setting: VariantSettings
    configs: dict[str, Config]  # by the variants' names, in the order of training
    steps: int  # of each variant, in whole epochs
    images: dict[str, int]  # `train` and `validation`
    chance: float  # accuracy up to which a network counts as no better than chance


def make_design(setting: VariantSettings) -> Design:
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


def variant_config(variant: Variant, setting: VariantSettings, epochs: int) -> Config:
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
    learning_rate = recipe.optimizer.learning_rate * variant.times * setting.rate_factor
    decay = recipe.optimizer.rate_decay ** (PAPER_EPOCHS / epochs)
    values = recipe.as_dict()
    values["model"] |= {
        "size": setting.size,
        "width_multiplier": setting.width,
        "activation": variant.activation or recipe.model.activation,
        "batch_norm_momentum": STATISTICS_MOMENTUM,
    }
    values["data"] |= {"name": setting.data, "box_area": BOX_AREA}
    values["optimizer"] |= {
        "learning_rate": float(f"{learning_rate:.6g}"),
        "rate_decay": float(f"{decay:.6g}"),
    }
    # The same precision on every machine, the paper's.
    values["training"] |= {"epochs": epochs, "seed": setting.seed, "precision": "float32"}
    return Config.parse(values, "the experiment")


def train_variants(
    wanted: dict[str, Config],
    out: Path,
    setting: VariantSettings,
    *,
    before: Callable[[str, Config], Iterable],
    after: Callable[[], None],
) -> None:
    """Trains the variants that `out` does not hold yet, one after the other, resuming unfinished ones.

    A variant whose loss or weights are no longer finite counts as finished: `ended.json` in its folder has
    the step.

    Args:
        wanted: variant to configuration.
        out: the folder of the experiment.
        setting: that `wanted` was designed for.
        before: called with name and configuration of a variant that will be trained; gives callbacks for `fit`.
        after: called when a variant has finished.

    Raises:
        UserError: `out` holds variants with other settings; raised before anything is trained.
        Stopped: after Ctrl-C, with the state saved.
    """
    _check_folder(wanted, out)
    for name, config in wanted.items():
        run = Run(out / name)
        if not (run.path / ENDED).is_file():
            _train(run, config, setting, before(name, config))
            after()


def _train(run: Run, config: Config, setting: VariantSettings, callbacks: Iterable) -> None:
    from inception_tf.experiments.variant_points import CurveRecorder
    from inception_tf.host.environment import environment
    from inception_tf.host.hardware import device_name
    from inception_tf.training.optim.skip_nonfinite import NotFiniteError
    from inception_tf.training.plan import make_plan
    from inception_tf.training.train import train

    plan = make_plan(config)
    points = CurveRecorder(
        run.path, plan, every=setting.every, max_images=setting.validation_images
    )
    started = time.perf_counter()
    try:
        started_before = run.config_file.is_file()
        report = train(config, run.path, resumed=started_before, callbacks=[points, *callbacks])
        ended = {"diverged_at": None, "why": None, "seconds": report["seconds"]}
    except NotFiniteError as error:
        seconds = round(time.perf_counter() - started, 1)
        ended = {"diverged_at": error.step, "why": str(error), "seconds": seconds}
    ended |= {"machine": device_name(), "environment": environment()}
    atomic_write_text(run.path / ENDED, json.dumps(ended, indent=2) + "\n")


def _check_folder(wanted: dict[str, Config], out: Path) -> None:
    """Checks that everything in `out` was trained with these settings."""
    for name, config in wanted.items():
        run = Run(out / name)
        if not run.config_file.is_file():
            continue
        theirs = run.config().flat()
        for key, wanted_value in config.flat().items():
            if theirs[key] != wanted_value:
                raise UserError(
                    f"{run.path} was trained with {key} {theirs[key]!r}, not {wanted_value!r}; repeat the"
                    " options that it started with, or use another --out"
                )
