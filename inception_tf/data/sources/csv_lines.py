# SPDX-License-Identifier: Apache-2.0
"""The lines of a CSV file that lists images, and which of its columns is which."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inception_tf.data.formats import is_image_name
from inception_tf.errors import UserError, printable
from inception_tf.host.files import open_regular

__all__ = ["CsvLine", "CsvTable", "Row", "make_row", "read_table"]

# Usual names of the columns, in small letters: of Keras' flow_from_dataframe, timm's and Kaggle's files.
# fmt: off
COLUMNS = {
    "image": ("path", "filepath", "file_path", "filename", "file_name", "file", "image", "image_path", "img", "img_path",
              "image_name", "filepaths"),
    "label": ("label", "class", "labels", "category", "target", "class_name", "label_name"),
    "split": ("split", "set", "subset", "data_set", "dataset", "partition", "fold_name"),
}
# fmt: on
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Row:
    """An image of the list."""

    line: int
    path: str
    label: str  # of multi-label data the cell with all of them
    split: str
    labels: tuple[str, ...] = ()  # of multi-label data


@dataclass(frozen=True)
class CsvLine:
    """A line of the table."""

    number: int
    cells: tuple[str, ...]

    def cell(self, index: int) -> str:
        """A cell without the spaces around it.

        Args:
            index: int. The column's position.

        Returns:
            Its text; "" where the line is shorter.
        """
        return self.cells[index].strip() if index < len(self.cells) else ""


@dataclass(frozen=True)
class CsvTable:
    """The lines of a file, without those that are empty."""

    header: tuple[str, ...]  # empty if there is none
    columns: dict[str, int]  # the positions of image, label and split, of those that there are
    lines: tuple[CsvLine, ...]


def read_table(file: Path, key: str | None, *, several: bool = False) -> CsvTable:
    """Read the lines of a CSV file and find its columns.

    Args:
        file: In UTF-8, separated by commas, semicolons, tabs or bars.
        key: str. As `open_csv` takes it.
        several: There may be no column of labels.

    Returns:
        The table.

    Raises:
        UserError: It is no such file.
    """
    text = _text(file)
    first = text.splitlines()[0] if text else ""
    delimiter = max(DELIMITERS, key=first.count)
    # The csv module's own limit on a field would be an error of its own.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: Iterator[list[str]] = iter(reader)
    try:
        header = next(rows, None)
        if header is None:
            raise UserError(f"{file} is empty; its first line names the columns: path,label,split")
        columns = _columns(header, key, str(file), several=several)
        found = []
        if columns is None:
            columns = {"image": 0, "label": 1} | ({"split": 2} if len(header) > 2 else {})
            found.append(CsvLine(reader.line_num, tuple(header)))
            header = []
        for cells in rows:
            if any(cell.strip() for cell in cells):
                found.append(CsvLine(reader.line_num, tuple(cells)))
    except csv.Error as error:
        raise UserError(f"{file} line {reader.line_num} is no CSV: {error}") from error
    return CsvTable(tuple(cell.strip() for cell in header), columns, tuple(found))


def _text(file: Path) -> str:
    with open_regular(str(file)) as stream:
        content = stream.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8, from byte {error.start}; save it as UTF-8"
        ) from error


def _columns(
    header: Sequence[str], key: str | None, file: str, *, several: bool
) -> dict[str, int] | None:
    """The positions of the columns; None if the first line is no header."""
    cells = [cell.strip() for cell in header]
    chosen = _parse_key(key)
    found: dict[str, int] = {}
    for role, column in chosen.items():
        if cells.count(column) != 1:
            raise UserError(
                f"{file} has {cells.count(column)} columns '{column}' for the {role}; its columns are"
                f" {', '.join(map(printable, cells))}"
            )
        found[role] = cells.index(column)
    lowered = [cell.lower() for cell in cells]
    for role, names in COLUMNS.items():
        if role in found:
            continue
        candidates = [
            k for k, cell in enumerate(lowered) if cell in names and k not in found.values()
        ]
        if len(candidates) > 1:
            raise UserError(
                f"{file} has the columns {' and '.join(cells[k] for k in candidates)}, which could each be the"
                f" {role}; choose with --key {role}={cells[candidates[0]]}"
            )
        if candidates:
            found[role] = candidates[0]
    if "image" in found and ("label" in found or several):
        return found
    if not found and len(cells) in (2, 3) and is_image_name(cells[0]):
        return None
    lacking = " and ".join(role for role in ("image", "label") if role not in found)
    more = (
        ", or, where each class has a column of 0 and 1, --set data.multi_label=true"
        if "image" in found and len(cells) > 2
        else ""
    )
    raise UserError(
        f"{file} has no column for the {lacking}; its first line has {', '.join(map(printable, cells))}: name"
        f" them path and label, or choose with --key image=COLUMN,label=COLUMN{more}"
        + (
            ""
            if "label" in found
            else "; images without labels are classified with inception-tf predict"
        )
    )


def _parse_key(key: str | None) -> dict[str, str]:
    parts = re.split(r",(?=(?:image|label|split)=)", key) if key else []
    pairs = {role: column for role, _, column in (part.partition("=") for part in parts)}
    if not set(pairs) <= set(COLUMNS) or not all(pairs.values()) or len(pairs) < len(parts):
        raise UserError(
            f"--key of csv: data must be image=COLUMN,label=COLUMN,split=COLUMN or some of them, got '{key}'"
        )
    return pairs


def make_row(line: CsvLine, columns: Mapping[str, int], file: str) -> Row:
    """Take image, label and split from the cells of a line; a label that is missing is "".

    Args:
        line: The line.
        columns: The position of each role's column.
        file: str. For the errors.

    Returns:
        The row.

    Raises:
        UserError: It has no image, or a cell cannot be used.
    """

    def cell(role: str) -> str:
        value = line.cell(columns[role]) if role in columns else ""
        if "\0" in value or (role != "label" and role in columns and not value):
            what = "a NUL character in its" if value else "no"
            raise UserError(
                f"{file} line {line.number} has {what} {role}; every line needs a path and a label"
            )
        return value

    return Row(line.number, cell("image"), cell("label"), cell("split"))
