# SPDX-License-Identifier: Apache-2.0
"""Ordinary runs of the BN paper's recipes, shortened alike and trained one after the other, each measured often.

Ioffe and Szegedy 2015, arXiv 1502.03167, sections 4.2.2 and 4.2.3.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.experiments.variant_outcomes import ENDED
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.run_folder import Run

__all__ = ["BOX_AREA", "RULE", "RunSettings", "shortened", "train_runs"]

RULE = (
    "every learning rate is the paper's times one factor, and falls over the run as far as the paper's fell"
    " in six million steps, 150 passes over ImageNet"
)
# Fraction of the image that a training crop covers, 0.05 to 1 in the recipes: 0.05 of 64 x 64 pixels is 14 x 14.
BOX_AREA = (0.25, 1.0)
# Epochs on ImageNet in the six million steps that BN-x30 needs for its 74.8 % (section 4.2.2).
PAPER_EPOCHS = 6e6 * 32 / 1_281_167
# Of the moving statistics; slim's 0.9997 averages over 3,300 steps, more than a short run has.
STATISTICS_MOMENTUM = 0.95


@dataclass(frozen=True)
class RunSettings:
    """The settings that all runs of an experiment share."""

    data: str  # a source's name
    steps: int  # of each run, rounded up to whole epochs
    size: int  # pixels, height and width
    width: float  # factor on every convolution's filters
    rate_factor: float  # on every learning rate of the paper
    every: int  # steps between two measurements of accuracy
    validation_images: int  # at most, to measure it on
    seed: int = 0
    initial_deviation: float | None = None  # of Gaussian initial weights; None: the recipe's


def shortened(
    recipe: Config,
    setting: RunSettings,
    epochs: int,
    *,
    times: float = 1.0,
    seed: int | None = None,
    **model: Any,
) -> Config:
    """Scales a recipe down to an experiment.

    Args:
        recipe: one of the paper's.
        setting: of all runs.
        epochs: the length of the training.
        times: further factor on the recipe's learning rate.
        seed: of this run; None: the setting's.
        **model: further keys of the section `model`.

    Returns:
        The configuration.

    Raises:
        UserError: a setting is out of range.
    """
    learning_rate = recipe.optimizer.learning_rate * times * setting.rate_factor
    decay = recipe.optimizer.rate_decay ** (PAPER_EPOCHS / epochs)
    values = recipe.as_dict()
    values["model"] |= {
        "size": setting.size,
        "width_multiplier": setting.width,
        "batch_norm_momentum": STATISTICS_MOMENTUM,
        **model,
    }
    if setting.initial_deviation is not None:
        drawn = {"initial_deviation": setting.initial_deviation}
        values["model"]["switches"] = {**values["model"]["switches"], **drawn}
    values["data"] |= {"name": setting.data, "box_area": BOX_AREA}
    values["optimizer"] |= {
        "learning_rate": float(f"{learning_rate:.6g}"),
        "rate_decay": float(f"{decay:.6g}"),
    }
    # The same precision on every machine, the paper's.
    values["training"] |= {
        "epochs": epochs,
        "seed": setting.seed if seed is None else seed,
        "precision": "float32",
    }
    return Config.parse(values, "the experiment")


def train_runs(
    wanted: dict[str, Config],
    out: Path,
    setting: RunSettings,
    *,
    before: Callable[[str, Config], Iterable],
    after: Callable[[], None],
) -> None:
    """Trains the runs that `out` does not hold yet, one after the other, resuming unfinished ones.

    A run whose loss or weights are no longer finite counts as finished: `ended.json` in its folder has the
    step.

    Args:
        wanted: name of the run's folder to configuration.
        out: the folder of the experiment.
        setting: that `wanted` was made from.
        before: called with name and configuration of a run that will be trained; gives callbacks for `fit`.
        after: called when a run has finished.

    Raises:
        UserError: `out` holds runs with other settings; raised before anything is trained.
        Stopped: after Ctrl-C, with the state saved.
    """
    _check_folder(wanted, out)
    for name, config in wanted.items():
        run = Run(out / name)
        if not (run.path / ENDED).is_file():
            _train(run, config, setting, before(name, config))
            after()


def _train(run: Run, config: Config, setting: RunSettings, callbacks: Iterable) -> None:
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
