# SPDX-License-Identifier: Apache-2.0
"""The labels of a CSV file whose images show several classes: in one cell, in several lines, or in a column per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inception_tf.data.sources.csv_lines import CsvTable, Row, make_row, read_table
from inception_tf.errors import UserError, printable

__all__ = ["read_several_labels", "with_all_labels"]

OTHER_SEPARATORS = "|;, "  # that people use between labels
# Cells of a class' column: pandas' get_dummies writes True and False, or 1 and 0.
SHOWN = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def read_several_labels(
    file: Path, key: str | None, separator: str, labels: tuple[str, ...] | None
) -> tuple[list[Row], tuple[str, ...] | None]:
    """Read the rows of a multi-label CSV file.

    Args:
        file: The file.
        key: str. As `open_csv` takes it.
        separator: str. Between the labels in a cell.
        labels: The classes in order; None: not given.

    Returns:
        The rows, with their `labels`; and the classes' names, where each class has a column.

    Raises:
        UserError: It is no such file, or a class' column has something else than 0 and 1.
    """
    if not separator:
        raise UserError("data.label_separator must be at least one character, such as '|', got ''")
    table = read_table(file, key, several=True)
    if "label" not in table.columns:
        return _rows_of_columns(file, table, labels)
    rows = []
    for line in table.lines:
        row = make_row(line, table.columns, str(file))
        parts = (part.strip() for part in row.label.split(separator))
        # A label that is repeated in a cell is one label.
        rows.append(replace(row, labels=tuple(dict.fromkeys(part for part in parts if part))))
    _check_separator(rows, separator, file)
    return rows, None


def with_all_labels(rows: Sequence[Row]) -> list[Row]:
    """Give each row the labels of all rows of its file, so that a file may be listed once for each label.

    Args:
        rows: The rows, in order.

    Returns:
        As many rows; those of one file have equal labels.
    """
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(os.path.normpath(row.path), {}).update(dict.fromkeys(row.labels))
    labels = {path: tuple(known) for path, known in found.items()}
    return [
        replace(row, labels=(all_of := labels[os.path.normpath(row.path)]), label=", ".join(all_of))
        for row in rows
    ]


def _rows_of_columns(
    file: Path, table: CsvTable, labels: tuple[str, ...] | None
) -> tuple[list[Row], tuple[str, ...]]:
    """A column for each class, with 1 where the image shows it."""
    taken = table.columns.values()
    places = {cell: place for place, cell in enumerate(table.header) if place not in taken}
    if len(places) + len(taken) < len(table.header):
        twice = next(cell for cell in table.header if table.header.count(cell) > 1)
        raise UserError(f"{file} has {table.header.count(twice)} columns '{printable(twice)}'")
    lacking = next((name for name in labels or () if name not in places), None)
    if lacking:
        raise UserError(
            f"{file} has no column for the class '{printable(lacking)}' of --labels; its columns are"
            f" {', '.join(map(printable, table.header))}"
        )
    names = labels or tuple(places)
    rows = []
    for line in table.lines:
        shown = []
        for name in names:
            cell = line.cell(places[name])
            if cell.lower() not in SHOWN:
                raise UserError(
                    f"{file} line {line.number} has '{printable(cell)}' in the column '{printable(name)}', and the"
                    " column of a class has 0 or 1; name a column of labels with --key label=COLUMN, or the columns"
                    " of the classes with --labels FILE"
                )
            if SHOWN[cell.lower()]:
                shown.append(name)
        rows.append(replace(make_row(line, table.columns, str(file)), labels=tuple(shown)))
    return rows, names


def _check_separator(rows: Sequence[Row], separator: str, file: Path) -> None:
    """Refuses cells that may have several labels in another form, where none has several in this one."""
    if any(len(row.labels) > 1 for row in rows) or len({row.path for row in rows}) < len(rows):
        return
    for other in OTHER_SEPARATORS.replace(separator, ""):
        found = next((row for row in rows if other in row.label), None)
        if found:
            raise UserError(
                f"{file} has '{separator}' in no label, and '{printable(found.label)}' in line {found.line}; if these"
                f" are several labels, add --set \"data.label_separator='{other}'\", and if every image has one,"
                " remove data.multi_label"
            )
