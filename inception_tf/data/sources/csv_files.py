# SPDX-License-Identifier: Apache-2.0
"""A CSV file with a path, a label and perhaps a split per line as a data source."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception_tf.data.formats import is_image_name
from inception_tf.data.labels import names_by_class
from inception_tf.data.sources.file_checks import MISSING, check_file
from inception_tf.data.sources.source_warnings import listed
from inception_tf.data.sources.split_names import assign_splits
from inception_tf.data.sources.splits import Source, Split, hold_out
from inception_tf.errors import UserError, printable
from inception_tf.host.files import open_regular

__all__ = ["open_csv"]

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
INTEGER = re.compile(r"\d{1,18}")


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str


def open_csv(
    name: str,
    file: Path,
    *,
    labels: tuple[str, ...] | None = None,
    label_offset: int | None = None,
    split_names: str | None = None,
    key: str | None = None,
) -> Source:
    """Open the images that a CSV file lists; without a column of splits, a tenth of each class is held out.

    Args:
        name: str. The name of the source.
        file: The file, in UTF-8, separated by commas, semicolons, tabs or bars.  Paths are relative to its
            folder.  The first line names the columns; without it they are path, label and split.
        labels: The classes in order; None: the labels that occur, sorted, numbers as numbers.
        label_offset: int. Subtracted from labels that are numbers, which then count the names in `labels`.
        split_names: str. Which values of the split column are which split; None: by their names.
        key: str. `image=COLUMN,label=COLUMN,split=COLUMN`, or some of them; None: by their usual names.

    Returns:
        The source.

    Raises:
        UserError: The file cannot be read as such a list.
    """
    rows = _rows(file, key)
    kept, sizes, unread = _checked_files(rows, file.parent, str(file))
    classes, names = _classes(kept, labels, label_offset, str(file))
    paths = [os.path.join(file.parent, row.path) for row in kept]
    whole = Split(
        np.array(paths, str), np.array(classes, np.int64), sizes=np.array(sizes, np.int64)
    )
    assigned = _assigned_splits(kept, str(file), split_names)
    splits = {
        split: whole.take(np.array([row.split in group for row in kept], bool))
        for split, group in assigned.items()
    }
    if set(splits) <= {"train"}:
        splits = hold_out(splits.get("train", whole))
    taken = {value for group in assigned.values() for value in group}
    for row, path in zip(kept, paths, strict=True):
        if taken and row.split not in taken:
            unread[path] = "in splits that --split-names excludes"
    missing = [path for path, reason in unread.items() if reason == MISSING]
    return Source(
        name,
        names,
        splits,
        unread=unread,
        problem=_problem(file, rows, kept, missing, names),
        warnings=(f"listed files that are missing: {len(missing)}, {listed(missing)}",)
        if missing
        else (),
    )


def _problem(
    file: Path,
    rows: Sequence[_Row],
    kept: Sequence[_Row],
    missing: Sequence[str],
    names: Sequence[str],
) -> str | None:
    if missing and not kept:
        return (
            f"none of the {len(rows)} files that {file} lists is there, such as {printable(missing[0])};"
            f" paths are relative to {file.parent}"
        )
    if not kept:
        return f"{file} lists no image"
    if len(names) < 2:
        return f"{file} needs images of at least two classes, found only '{names[0]}'"
    return None


def _rows(file: Path, key: str | None) -> list[_Row]:
    text = _text(file)
    first = text.splitlines()[0] if text else ""
    delimiter = max(DELIMITERS, key=first.count)
    # The csv module's own limit on a field would be an error of its own.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: Iterator[list[str]] = iter(reader)
    try:
        header = next(lines, None)
        if header is None:
            raise UserError(f"{file} is empty; its first line names the columns: path,label,split")
        columns = _columns(header, key, str(file))
        found = []
        if columns is None:
            columns = {"image": 0, "label": 1} | ({"split": 2} if len(header) > 2 else {})
            found.append(_row(header, columns, reader.line_num, str(file)))
        for line in lines:
            if any(cell.strip() for cell in line):
                found.append(_row(line, columns, reader.line_num, str(file)))
        return found
    except csv.Error as error:
        raise UserError(f"{file} line {reader.line_num} is no CSV: {error}") from error


def _text(file: Path) -> str:
    with open_regular(str(file)) as stream:
        content = stream.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8, from byte {error.start}; save it as UTF-8"
        ) from error


def _columns(header: Sequence[str], key: str | None, file: str) -> dict[str, int] | None:
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
    if "image" in found and "label" in found:
        return found
    if not found and len(cells) in (2, 3) and is_image_name(cells[0]):
        return None
    lacking = " and ".join(role for role in ("image", "label") if role not in found)
    raise UserError(
        f"{file} has no column for the {lacking}; its first line has {', '.join(map(printable, cells))}: name"
        " them path and label, or choose with --key image=COLUMN,label=COLUMN"
    )


def _parse_key(key: str | None) -> dict[str, str]:
    parts = re.split(r",(?=(?:image|label|split)=)", key) if key else []
    pairs = {role: column for role, _, column in (part.partition("=") for part in parts)}
    if not set(pairs) <= set(COLUMNS) or not all(pairs.values()) or len(pairs) < len(parts):
        raise UserError(
            f"--key of csv: data must be image=COLUMN,label=COLUMN,split=COLUMN or some of them, got '{key}'"
        )
    return pairs


def _row(cells: Sequence[str], columns: Mapping[str, int], line: int, file: str) -> _Row:
    def cell(role: str) -> str:
        index = columns[role]
        value = cells[index].strip() if index < len(cells) else ""
        if not value or "\0" in value:
            what = "a NUL character in its" if value else "no"
            raise UserError(
                f"{file} line {line} has {what} {role}; every line needs a path and a label"
            )
        return value

    return _Row(line, cell("image"), cell("label"), cell("split") if "split" in columns else "")


def _checked_files(
    rows: Sequence[_Row], folder: Path, file: str
) -> tuple[list[_Row], list[int], dict[str, str]]:
    """The rows whose files are read, their sizes, and the other files with reasons."""
    kept, sizes = [], []
    unread: dict[str, str] = {}
    seen: dict[str, _Row] = {}
    for row in rows:
        first = seen.setdefault(os.path.normpath(row.path), row)
        if first.label != row.label or first.split != row.split:
            what = "label" if first.label != row.label else "split"
            both = " and ".join(f"'{printable(getattr(r, what))}'" for r in (first, row))
            raise UserError(
                f"{file} lists {printable(row.path)} with the {what}s {both}, in lines {first.line} and"
                f" {row.line}; an image has one {what}"
            )
        path = os.path.join(folder, row.path)
        if first is not row:
            unread[f"{path}, line {row.line}"] = "listed again"
            continue
        checked = check_file(path)
        if checked.reason:
            unread[path] = checked.reason
        else:
            kept.append(row)
            sizes.append(checked.size)
    return kept, sizes, unread


def _classes(
    rows: Sequence[_Row], names: tuple[str, ...] | None, offset: int | None, file: str
) -> tuple[list[int], tuple[str, ...]]:
    """The class of each row, and the names of the classes."""
    labels = [row.label for row in rows]
    are_numbers = all(map(INTEGER.fullmatch, labels))
    if names is None:
        if offset:
            raise UserError(
                "--label-offset of csv: data counts the names of --labels FILE; give both"
            )
        # "10" after "9", but no class for a number that does not occur.
        found = sorted(set(labels), key=int) if are_numbers else sorted(set(labels))
        number = {label: index for index, label in enumerate(found)}
        return [number[label] for label in labels], tuple(found)
    if labels and are_numbers and not set(labels) <= set(names):
        numbers = [int(label) for label in labels]
        listed_names, offset = names_by_class(
            names,
            where="--labels",
            lowest=min(numbers),
            highest=max(numbers),
            label_offset=offset,
        )
        return [value - offset for value in numbers], listed_names
    number = {label: index for index, label in enumerate(names)}
    lacking = next((row for row in rows if row.label not in number), None)
    if lacking:
        raise UserError(
            f"{file} line {lacking.line} has the label '{printable(lacking.label)}', which the list of --labels"
            " lacks"
        )
    return [number[label] for label in labels], names


def _assigned_splits(
    rows: Sequence[_Row], file: str, split_names: str | None
) -> dict[str, tuple[str, ...]]:
    """split → values of the column; empty if there is no such column."""
    values = dict.fromkeys(row.split for row in rows if row.split)
    assigned = assign_splits(values, file, chosen=split_names, kind="splits") if values else {}
    if values and not assigned and split_names is None:
        raise UserError(
            f"{file} has the splits {listed(list(values))}, and none is train, validation or test; say which is"
            " which with --split-names train=A,validation=B"
        )
    return assigned
