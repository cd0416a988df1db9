# SPDX-License-Identifier: Apache-2.0
"""The files of the experiment, rewritten from the variants' run folders: figures 2 and 3 and the report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from inception_tf.experiments.bn_variants import Design
from inception_tf.experiments.short_runs import BOX_AREA, RULE
from inception_tf.experiments.variant_figure import draw_figure2
from inception_tf.experiments.variant_outcomes import (
    Curve,
    figure2_rows,
    figure3_rows,
    read_curve,
    rows_to_csv,
)
from inception_tf.host.atomic_io import atomic_write_text
from inception_tf.run_folder import Run

__all__ = ["write_report"]


def write_report(design: Design, out: Path) -> dict:
    """Writes `figure2.csv`, `figure2.png`, `figure3.csv` and `report.json` from the runs in `out`.

    Each file is written completely or not at all.

    Args:
        design: of the experiment.
        out: its folder.

    Returns:
        The content of `report.json`.
    """
    found = (read_curve(Run(out / name)) for name in design.configs)
    curves = [curve for curve in found if curve]
    points, table = figure2_rows(curves), figure3_rows(curves, design.chance)
    report = _report(design, curves, table)
    if points:
        atomic_write_text(out / "figure2.csv", rows_to_csv(points))
    draw_figure2(curves, out / "figure2.png", chance=design.chance, title=_title(design))
    atomic_write_text(out / "figure3.csv", rows_to_csv(table))
    atomic_write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _title(design: Design) -> str:
    setting = design.setting
    kind, _, rest = setting.data.partition(":")
    path = Path(rest)
    name = {"tfrecord": path.parent.name, "folder": path.name}.get(kind, setting.data)
    return (
        f"{name}: {design.images['train']:,} images to train, {design.images['validation']:,} to"
        f" validate, {setting.size} pixels, width {setting.width:g}, learning rates x {setting.rate_factor:g}\n"
        "horizontal lines: the best of inception (solid), chance plus three standard deviations (dotted)"
    )


def _report(design: Design, curves: list[Curve], table: list[dict]) -> dict:
    ended = [curve.ended for curve in curves if curve.ended]
    environments = [one["environment"] for one in ended]
    return {
        "setting": asdict(design.setting),
        "batch_size": next(iter(design.configs.values())).data.batch_size,
        "box_area": list(BOX_AREA),
        "steps": design.steps,
        "images": design.images,
        "chance_bound": design.chance,
        "rule": RULE,
        "rates": {name: c.optimizer.learning_rate for name, c in design.configs.items()},
        "figure3": table,
        "complete": len(ended) == len(design.configs),
        "seconds": round(sum(one["seconds"] for one in ended), 1),
        "machines": sorted({one["machine"] for one in ended}),
        "environments": [one for n, one in enumerate(environments) if one not in environments[:n]],
    }
