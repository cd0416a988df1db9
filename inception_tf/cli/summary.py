# SPDX-License-Identifier: Apache-2.0
"""`inception-tf summary`."""

from __future__ import annotations

import json

import click

from inception_tf.cli.output import echo

__all__ = ["command"]


@click.command("summary")
@click.argument("model")
@click.option(
    "--size",
    type=int,
    help="Height and width of the images in pixels.  [default: the published size]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
)
def command(model, size, form):
    """Print MODEL's layer table in the columns of the GoogLeNet paper's Table 1.

    ops are multiply-adds per image; params counts all weights, moving statistics included.
    Auxiliary classifiers, for training only, follow the total.

    \b
    inception-tf summary inception_v3 --format markdown
    """
    from inception_tf.arch.table import auxiliary_rows, summary
    from inception_tf.cli.render import markdown, table
    from inception_tf.models import find_network

    network = find_network(model)
    rows, auxiliary = summary(network, size), auxiliary_rows(network, size)
    if form == "json":
        echo(json.dumps(rows + auxiliary, indent=2))
    else:
        lines = [*rows, _total("total", rows)]
        if auxiliary:
            lines += [*auxiliary, _total("total in training", rows + auxiliary)]
        header = _columns(rows + auxiliary)
        cells = [[_shown(row.get(column, "")) for column in header] for row in lines]
        echo({"table": table, "markdown": markdown}[form](header, cells))
    for note in network.notes:
        echo(f"\n{note}", err=form == "json")


def _total(name: str, rows: list[dict]) -> dict:
    return {"type": name} | {key: sum(row[key] for row in rows) for key in ("params", "ops")}


def _columns(rows: list[dict]) -> list[str]:
    """All columns of all rows; those that only some rows have are between depth and params, as in Table 1."""
    first = ["type", "name", "patch/stride", "output size", "depth"]
    last = ["params", "ops"]
    widths: dict[str, None] = {}
    for row in sorted(rows, key=len, reverse=True):
        widths |= dict.fromkeys(key for key in row if key not in (*first, *last))
    return [*first, *widths, *last]


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
