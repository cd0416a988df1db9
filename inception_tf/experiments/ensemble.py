# SPDX-License-Identifier: Apache-2.0
"""An ensemble of BN-x30 networks: Ioffe and Szegedy 2015, section 4.2.3 and Figure 4, on one data set.

Each member is an ordinary run, `OUT/member-N`, of the recipe `bn-ensemble`, with its own seed.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from inception_tf.config import Config
from inception_tf.errors import UserError
from inception_tf.experiments.short_runs import BOX_AREA, RULE, RunSettings, shortened
from inception_tf.experiments.variant_outcomes import ENDED, rows_to_csv
from inception_tf.host.atomic_io import atomic_path, atomic_write_text
from inception_tf.host.plotting import new_figure
from inception_tf.run_folder import Run
from inception_tf.training.recipes import read_recipe

__all__ = [
    "CROPS",
    "DEFAULT",
    "Ensemble",
    "PAPER",
    "SubsetErrors",
    "evaluate_members",
    "make_ensemble",
    "subset_errors",
    "write_figure4",
]

RECIPE = "bn-ensemble"
# Section 4.2.3: 5 or 10 %; which member has which is not said.
DROPOUTS = (0.05, 0.1)
CROPS = (1, 144)
BATCH = 4 * 48  # crops that pass through a network together: four square images

# Ioffe and Szegedy 2015, Figure 4: model, resolution, crops, models, top-1 and top-5 error in %, of ImageNet's
# 50,000 validation images; the last row is of the 100,000 test images, by the test server.
PAPER = (
    ("GoogLeNet ensemble", "224", "144", "7", None, 6.67),
    ("Deep Image low-res", "256", "-", "1", None, 7.96),
    ("Deep Image high-res", "512", "-", "1", 24.88, 7.42),
    ("Deep Image ensemble", "variable", "-", "-", None, 5.98),
    ("BN-Inception single crop", "224", "1", "1", 25.2, 7.82),
    ("BN-Inception multicrop", "224", "144", "1", 21.99, 5.82),
    ("BN-Inception ensemble", "224", "144", "6", 20.1, 4.9),
    ("BN-Inception ensemble, test images", "224", "144", "6", None, 4.82),
)

DEFAULT = {
    "steps": 936,
    "size": 33,  # the smallest whose last feature map is 2x2
    "width": 0.25,
    "rate_factor": 1.0,
    "every": 312,
    "validation_images": 1_000,
}


@dataclass(frozen=True)
class Ensemble:
    """The settings resolved against their data."""

    setting: RunSettings
    configs: dict[str, Config]  # by the members' names, in the order of training
    images: dict[str, int]  # `train` and `test`, the evaluated ones


@dataclass(frozen=True)
class SubsetErrors:
    """The errors of all ensembles of so many of the members, in [0, 1]."""

    models: int
    crops: int
    top1: tuple[float, ...]
    top5: tuple[float, ...]


def make_ensemble(setting: RunSettings, members: int) -> Ensemble:
    """Opens the data and resolves the configuration of each member.

    Args:
        setting: of all members; its seed is the first one's.
        members: how many.

    Returns:
        The ensemble.

    Raises:
        UserError: the data is missing, or a setting is out of range.
    """
    from inception_tf.data.sampling import steps_per_epoch
    from inception_tf.data.sources.open import open_source

    source, recipe = open_source(setting.data), read_recipe(RECIPE)
    train = source.split("train")
    epochs = math.ceil(setting.steps / steps_per_epoch(train, recipe.data.batch_size))
    configs = {
        f"member-{number + 1}": shortened(
            recipe,
            setting,
            epochs,
            seed=setting.seed + number,
            dropout=DROPOUTS[number % len(DROPOUTS)],
        )
        for number in range(members)
    }
    test = len(_test_rows(len(source.split()), setting))
    return Ensemble(setting, configs, {"train": len(train), "test": test})


def evaluate_members(
    ensemble: Ensemble, out: Path, log: Callable[[str], None]
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Classifies the test images with each trained member, with one and with many crops.

    The probabilities of a member are kept in its folder, `probabilities-CROPS.npz`, and read from there the next
    time.

    Args:
        ensemble: the members.
        out: the folder of the experiment, with the finished runs.
        log: called with lines of progress.

    Returns:
        Crops to (members, N, K) float32, without members that diverged, and the true classes, (N,) int64.

    Raises:
        UserError: all members diverged.
    """
    from inception_tf.classifiers import open_classifier
    from inception_tf.data.sources.open import open_source
    from inception_tf.evaluation.metrics import predict_split

    split = open_source(ensemble.setting.data).split()
    split = split.take(_test_rows(len(split), ensemble.setting))
    found: dict[int, list[np.ndarray]] = {crops: [] for crops in CROPS}
    for name in _finite(ensemble, out):
        for crops in CROPS:
            file = out / name / f"probabilities-{crops}.npz"
            if not (file.is_file() and int(np.load(file)["images"]) == len(split)):
                log(f"{name}: classifies {len(split):,} images with {crops} crops each")
                classifier = open_classifier(str(out / name))
                predictions = predict_split(classifier, split, crops=crops, batch_size=BATCH)
                with atomic_path(file) as temporary, open(temporary, "wb") as opened:
                    np.savez(
                        opened,
                        probabilities=predictions.probabilities,
                        indices=predictions.indices,
                        images=len(split),
                    )
            stored = np.load(file)
            found[crops].append(stored["probabilities"])
            indices = stored["indices"]  # of the readable images: those of all members
    if not found[1]:
        raise UserError("no member has finite weights; use a smaller --rate-factor")
    stacked = {crops: np.stack(probabilities) for crops, probabilities in found.items()}
    return stacked, split.classes[indices]


def subset_errors(probabilities: np.ndarray, classes: np.ndarray, crops: int) -> list[SubsetErrors]:
    """The errors of every ensemble that the members can form: the mean of their probabilities.

    Args:
        probabilities: (members, N, K).
        classes: (N,), the true ones.
        crops: that the probabilities were computed with.

    Returns:
        Of one member, of two, ..., of all.
    """
    from inception_tf.evaluation.metrics import in_top

    rows = []
    for models in range(1, len(probabilities) + 1):
        means = [
            probabilities[list(chosen)].mean(axis=0)
            for chosen in itertools.combinations(range(len(probabilities)), models)
        ]
        first, five = (
            tuple(float(1 - in_top(mean, classes, k).mean()) for mean in means) for k in (1, 5)
        )
        rows.append(SubsetErrors(models, crops, first, five))
    return rows


def write_figure4(ensemble: Ensemble, out: Path, log: Callable[[str], None]) -> dict:
    """Evaluates the members, alone and together, and writes `figure4.csv`, `figure4.png` and `report.json`.

    Args:
        ensemble: the members.
        out: the folder of the experiment, with the finished runs.
        log: called with lines of progress.

    Returns:
        The content of `report.json`: errors in [0, 1].
    """
    probabilities, classes = evaluate_members(ensemble, out, log)
    errors = [row for crops in CROPS for row in subset_errors(probabilities[crops], classes, crops)]
    ended = _ended(ensemble, out)
    report = {
        "experiment": "ensemble",
        "setting": asdict(ensemble.setting),
        "members": len(ensemble.configs),
        "diverged": [name for name, one in ended.items() if one["diverged_at"] is not None],
        "dropouts": {name: config.model.dropout for name, config in ensemble.configs.items()},
        "learning_rate": next(iter(ensemble.configs.values())).optimizer.learning_rate,
        "box_area": list(BOX_AREA),
        "rule": RULE,
        "images": ensemble.images,
        "errors": [_row(row) for row in errors],
        "seconds": round(sum(one["seconds"] for one in ended.values()), 1),
        "machines": sorted({one["machine"] for one in ended.values()}),
        "environments": _distinct([one["environment"] for one in ended.values()]),
    }
    _draw(errors, out / "figure4.png", report)
    atomic_write_text(out / "figure4.csv", rows_to_csv(report["errors"]))
    atomic_write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _row(errors: SubsetErrors) -> dict:
    """Mean and spread over all subsets of this size."""
    numbers: dict[str, float | None] = {}
    for k, values in ((1, errors.top1), (5, errors.top5)):
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        numbers |= {f"top{k}_error": float(np.mean(values)), f"top{k}_spread": spread}
    return {
        "models": errors.models,
        "crops": errors.crops,
        "ensembles": len(errors.top1),
        **numbers,
    }


def _test_rows(images: int, setting: RunSettings) -> np.ndarray:
    """Evenly spaced test images."""
    return np.arange(0, images, math.ceil(images / setting.validation_images))


def _ended(ensemble: Ensemble, out: Path) -> dict[str, dict]:
    files = {name: Run(out / name).path / ENDED for name in ensemble.configs}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}


def _finite(ensemble: Ensemble, out: Path) -> list[str]:
    return [name for name, one in _ended(ensemble, out).items() if one["diverged_at"] is None]


def _distinct(values: Sequence[Mapping]) -> list[Mapping]:
    return [value for n, value in enumerate(values) if value not in values[:n]]


def _draw(errors: Sequence[SubsetErrors], path: Path, report: dict) -> None:
    figure = new_figure("the figure", 9.0, 3.8)
    looks = {1: ("0.55", "--", "o"), 144: ("0.0", "-", "s")}
    for axes, k in zip(figure.subplots(1, 2), (1, 5), strict=True):
        for crops in CROPS:
            rows = [row for row in errors if row.crops == crops]
            color, line, marker = looks[crops]
            values = [100 * np.array(row.top1 if k == 1 else row.top5) for row in rows]
            models = [row.models for row in rows]
            name = "1 crop" if crops == 1 else f"{crops} crops"
            means = [value.mean() for value in values]
            axes.plot(models, means, color=color, linestyle=line, marker=marker, label=name)
            # Every ensemble beside the mean, so that the spread over members is seen.
            for number, value in zip(models, values, strict=True):
                shift = 0.1 if crops == 1 else -0.1
                axes.plot([number + shift] * len(value), value, ".", color=color, markersize=3)
        axes.set(
            xlabel="models in the ensemble", ylabel=f"top-{k} error (%)", title=f"top-{k} error"
        )
        axes.set_xticks(range(1, report["members"] + 1))
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
