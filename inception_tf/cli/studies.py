# SPDX-License-Identifier: Apache-2.0
"""The commands of the small experiments, made from their catalog."""

from __future__ import annotations

from pathlib import Path

import click

from inception_tf.cli.options import COUNT, DATA
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, OUTPUT_FOLDER
from inception_tf.experiments.catalog import EXPERIMENTS, Experiment, StudySettings

__all__ = ["add_studies"]

HELP = """{shows}

{source}.  Writes figure.png, table.md, report.json and a file for each trial.  Ctrl-C loses the trial under way; the
same command resumes there.

\b
inception-tf experiment {name} --out runs/{name}
"""


def add_studies(group: click.Group) -> None:
    """Adds a command for each experiment of the catalog.

    Args:
        group: `inception-tf experiment`.
    """
    for experiment in EXPERIMENTS.values():
        group.add_command(_command(experiment))


def _command(experiment: Experiment) -> click.Command:
    default = experiment.default

    @click.command(
        experiment.name,
        help=HELP.format(shows=experiment.shows, source=experiment.source, name=experiment.name),
    )
    @click.option("--out", required=True, type=OUTPUT_FOLDER, help="The folder for the files.")
    @click.option("--data", type=DATA_NAME, default=default.data, show_default=True, help=DATA)
    @click.option(
        "--steps",
        type=COUNT,
        default=default.steps,
        show_default=True,
        help="Steps of each training.",
    )
    @click.option(
        "--seeds",
        type=COUNT,
        default=default.seeds,
        show_default=True,
        help="Trainings of each kind, with the seeds 0, 1, ...",
    )
    def command(out, data, steps, seeds):
        from inception_tf.host.backend import needs_tensorflow_backend

        needs_tensorflow_backend("experiment")
        from inception_tf.experiments.study import run_study

        setting = StudySettings(data, steps, seeds)
        report = run_study(experiment, setting, Path(out), lambda line: echo(line, err=True))
        echo(_summary(report))
        echo(f"figure.png, table.md and report.json are in {out}")

    return command


def _summary(report: dict) -> str:
    """The table of the experiment, then which statements hold."""
    from inception_tf.cli.render import table
    from inception_tf.experiments.page import Column, table_cells

    columns = [Column(**values) for values in report["columns"]]
    holds = [
        f"{'yes' if true else 'NO':3}  {statement}" for statement, true in report["holds"].items()
    ]
    heads = [column.head for column in columns]
    return "\n".join((table(heads, table_cells(columns, report["rows"])), *holds))
