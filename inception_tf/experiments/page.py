# SPDX-License-Identifier: Apache-2.0
"""What the page of an experiment quotes from its report: command, table, statements, machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Column", "report_page", "table_cells"]

HUGE = 1e6  # from here on a number is shown by its power of ten


@dataclass(frozen=True)
class Column:
    """A column of an experiment's table."""

    key: str  # of a row
    head: str
    digits: int = 1  # after the point; of words it does not matter
    percent: bool = False  # a fraction shown in %
    scientific: bool = False  # for numbers of any size


def table_cells(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a table as text.

    Args:
        columns: of the table.
        rows: by the columns' keys; a number at KEY_sd is the spread of the one at KEY.

    Returns:
        A list for each row: `-` where there is no value.
    """
    return [[_cell(column, row) for column in columns] for row in rows]


def _cell(column: Column, row: Mapping[str, Any]) -> str:
    value, spread = row.get(column.key), row.get(f"{column.key}_sd")
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    huge = max(abs(value), abs(spread or 0)) >= HUGE

    def shown(number):
        if column.scientific or huge:
            return f"{number:.{1 if huge else column.digits}e}"
        return f"{number * (100 if column.percent else 1):,.{column.digits}f}"

    text = shown(value) if spread is None else f"{shown(value)} ± {shown(spread)}"
    return f"{text} %" if column.percent else text


def report_page(report: Mapping[str, Any]) -> str:
    """Formats a report for its page, in Markdown.

    Args:
        report: the content of `report.json`.

    Returns:
        The command, the table, which statements hold, and where and when it was computed.
    """
    setting = report["setting"]
    command = (
        f"inception-tf experiment {report['experiment']} --data {shlex.quote(setting['data'])}"
        f" --steps {setting['steps']} --seeds {setting['seeds']} --out runs/{report['experiment']}"
    )
    columns = [Column(**values) for values in report["columns"]]
    cells = table_cells(columns, report["rows"])
    lines = [[column.head for column in columns], ["---"] * len(columns), *cells]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    seeds = range(setting["seeds"])
    means = f" Numbers with ± are mean and standard deviation over seeds {seeds[0]} to {seeds[-1]}."
    holds = "\n".join(
        f"- {'yes' if true else 'no'}: {statement}" for statement, true in report["holds"].items()
    )
    versions = dict.fromkeys(  # the commits may differ
        ", ".join(f"{name} {version}" for name, version in one.items() if name != "commit")
        for one in report["environments"]
    )
    images = report["images"]
    return f"""\
    {command}

{images["train"]:,} training images, {images["test"]:,} test images.{means if len(seeds) > 1 else ""}

{table}

{holds}

{report["date"]}, {", ".join(report["devices"])}, {"; ".join(versions)}: {report["processor_seconds"]:,.0f} s of processor time.
"""
