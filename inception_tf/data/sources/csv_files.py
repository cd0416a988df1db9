# SPDX-License-Identifier: Apache-2.0
"""A CSV file with a path, a label and perhaps a split per line as a data source."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from inception_tf.data.labels import names_by_class
from inception_tf.data.multi_label import target_rows, unlabeled_warning
from inception_tf.data.sources.csv_labels import read_several_labels, with_all_labels
from inception_tf.data.sources.csv_lines import Row, make_row, read_table
from inception_tf.data.sources.file_checks import MISSING, check_file
from inception_tf.data.sources.source_warnings import listed
from inception_tf.data.sources.split_names import assign_splits
from inception_tf.data.sources.splits import Source, Split, hold_out
from inception_tf.errors import UserError, printable

__all__ = ["open_csv"]

INTEGER = re.compile(r"\d{1,18}")


def open_csv(
    name: str,
    file: Path,
    *,
    labels: tuple[str, ...] | None = None,
    label_offset: int | None = None,
    split_names: str | None = None,
    key: str | None = None,
    separator: str | None = None,
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
        separator: str. Of multi-label data, between the labels in a cell; without a column of labels, each column
            beside image and split is a class, with 1 where the image shows it.  None: an image has one label.

    Returns:
        The source.

    Raises:
        UserError: The file cannot be read as such a list.
    """
    if separator is None:
        rows = _rows(file, key)
    else:
        rows, columns = read_several_labels(file, key, separator, labels)
        rows, labels = with_all_labels(rows), labels or columns
    kept, sizes, unread = _checked_files(rows, file.parent, str(file))
    # An image of several labels is as many images of one.
    single = [
        replace(row, label=label)
        for row in kept
        for label in ((row.label,) if separator is None else row.labels)
    ]
    classes, names = _classes(single, labels, label_offset, str(file))
    targets = None
    if separator is not None:
        images = [index for index, row in enumerate(kept) for _ in row.labels]
        targets = target_rows(len(kept), len(names), zip(images, classes, strict=True))
        classes = targets.argmax(axis=1).tolist() if len(names) else [0] * len(kept)
    paths = [os.path.join(file.parent, row.path) for row in kept]
    whole = Split(
        np.array(paths, str),
        np.array(classes, np.int64),
        sizes=np.array(sizes, np.int64),
        targets=targets,
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
        warnings=(
            *(
                (f"listed files that are missing: {len(missing)}, {listed(missing)}",)
                if missing
                else ()
            ),
            *unlabeled_warning(splits),
        ),
    )


def _problem(
    file: Path,
    rows: Sequence[Row],
    kept: Sequence[Row],
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
    if not names:
        return f"{file} has no label in any line"
    if len(names) < 2:
        return f"{file} needs images of at least two classes, found only '{names[0]}'"
    return None


def _rows(file: Path, key: str | None) -> list[Row]:
    """The rows of a file whose images have one label each."""
    table = read_table(file, key)
    rows = [make_row(line, table.columns, str(file)) for line in table.lines]
    lacking = next((row for row in rows if not row.label), None)
    if lacking:
        raise UserError(
            f"{file} line {lacking.line} has no label; every line needs a path and a label"
        )
    return rows


def _checked_files(
    rows: Sequence[Row], folder: Path, file: str
) -> tuple[list[Row], list[int], dict[str, str]]:
    """The rows whose files are read, their sizes, and the other files with reasons."""
    kept, sizes = [], []
    unread: dict[str, str] = {}
    seen: dict[str, Row] = {}
    for row in rows:
        first = seen.setdefault(os.path.normpath(row.path), row)
        if first.label != row.label or first.split != row.split:
            what = "label" if first.label != row.label else "split"
            more = ", unless --set data.multi_label=true" if what == "label" else ""
            both = " and ".join(f"'{printable(getattr(r, what))}'" for r in (first, row))
            raise UserError(
                f"{file} lists {printable(row.path)} with the {what}s {both}, in lines {first.line} and"
                f" {row.line}; an image has one {what}{more}"
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
    rows: Sequence[Row], names: tuple[str, ...] | None, offset: int | None, file: str
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
    rows: Sequence[Row], file: str, split_names: str | None
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
