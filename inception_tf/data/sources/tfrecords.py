# SPDX-License-Identifier: Apache-2.0
"""TFRecord files of tf.Examples as a data source: indexed once, then each record is read by its location.

An index instead of a stream makes every epoch a uniform permutation of all images, whatever their order in
the files, and lets a stopped run resume at its exact position.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from inception_tf.data.labels import has_background_row, names_by_class, read_class_names
from inception_tf.data.sources.names import no_records
from inception_tf.data.sources.record_examples import parse_keys
from inception_tf.data.sources.record_index import RecordIndex, index_records
from inception_tf.data.sources.source_warnings import counted, listed
from inception_tf.data.sources.split_names import assign_splits, split_of
from inception_tf.data.sources.splits import Source, Split, hold_out
from inception_tf.errors import UserError, printable
from inception_tf.host.files import kind_of_file, retry_lost

__all__ = ["NOT_RECORDS", "checked_index", "find_record_files", "open_tfrecords", "record_split"]

# Endings of files that lie beside records, and what they are.
NOT_RECORDS = {
    ".csv": "a table",
    ".gitignore": "no records",
    ".html": "a page",
    ".idx": "an index of another program",
    ".index": "an index of another program",
    ".json": "JSON",
    ".log": "a log",
    ".md": "text",
    ".md5": "checksums",
    ".npy": "an array",
    ".pbtxt": "a label map",
    ".prototxt": "text",
    ".py": "a program",
    ".sha256": "checksums",
    ".tsv": "a table",
    ".txt": "text",
    ".yaml": "YAML",
    ".yml": "YAML",
}
LABEL_FILES = ("labels.txt", "labels.json", "label.labels.txt")
WRONG_CHECKSUM = "damaged: the checksum is wrong"
# Classes of a set whose records name them: more than any set of images has, and few enough for a network.
MOST_CLASSES = 100_000
MOST_CHECKED = 200  # records with implausible labels, each of which takes 10 ms
LISTED = 3


def open_tfrecords(
    name: str,
    pattern: str,
    label_offset: int | None = None,
    key: str | None = None,
    labels_file: str | None = None,
    split_names: str | None = None,
) -> Source:
    """Open TFRecord files, assigned to splits by their names; where these name no other split than train, a tenth is held out.

    Class names are read from a `labels.txt` or `labels.json` beside the files, or else from the records.

    Args:
        name: str. The name of the source.
        pattern: str. A glob of the files.
        label_offset: int. Subtracted from the labels; None: 0, or what the class names leave as the only choice.
        key: str. `image=KEY,label=KEY` or one of them; None: slim's or TFDS'.
        labels_file: str. The class names; None: those beside the files or in the records.
        split_names: str. Which files are which split, by name or pattern; None: by words in their names.

    Returns:
        The source.

    Raises:
        UserError: No file matches, one is no TFRecord file, no record can be read, or records have other
            features or impossible labels.
    """
    files, unread = find_record_files(pattern)
    rows, where = _read_names(files, labels_file)
    index = index_records(files, parse_keys(key))
    index = checked_index(index, rows, where, label_offset)
    names, named, offset = _class_names(index, rows, where, label_offset)
    parts = _assign_files(name, pattern, files, split_names)
    unread = {
        file: why for file, why in unread.items() if os.path.basename(file) not in LABEL_FILES
    }
    unread |= dict.fromkeys(index.empty, "empty")
    if not parts:
        splits = hold_out(record_split(index, offset), index.held)
    else:
        taken = {file for part in parts.values() for file in part}
        unread |= {file: "not named by --split-names" for file in files if file not in taken}
        splits = {split: record_split(index, offset, found) for split, found in parts.items()}
        if set(splits) == {"train"}:
            whole = len(splits["train"]) == len(index)
            splits = hold_out(splits["train"], index.held if whole else None)
    return Source(
        name, names, splits, named, unread, warnings=tuple(_warnings(index, rows, offset))
    )


def record_split(index: RecordIndex, offset: int, files: Iterable[str] | None = None) -> Split:
    """The records of some files as a split.

    Args:
        index: All records.
        offset: int. Subtracted from the labels.
        files: Paths; None: all files of the index.

    Returns:
        The split, which lists the records that are damaged.
    """
    shown = index.records.names or index.records.files
    wanted = set(shown if files is None else files)
    chosen = np.array([file in wanted for file in shown])
    damaged = {name: why for name, (file, why) in index.damaged.items() if chosen[file]}
    if chosen.all():
        return Split(index.records, index.labels - offset, damaged=damaged)
    # Records are in the order of their files.  A slice of an index of millions takes no time.
    bounds = np.searchsorted(index.records.locations[:, 0], np.arange(len(shown) + 1))
    first, last = np.flatnonzero(chosen)[[0, -1]]
    rows = (
        slice(bounds[first], bounds[last + 1])
        if chosen[first : last + 1].all()
        else np.repeat(chosen, np.diff(bounds))
    )
    return Split(index.records[rows], index.labels[rows] - offset, damaged=damaged)


def checked_index(
    index: RecordIndex, rows: Sequence[str] | None, where: str, offset: int | None
) -> RecordIndex:
    """An index whose labels are possible: without records whose label is wrong because they are damaged.

    Args:
        index: All records.
        rows: Names of the classes; None: not known.
        where: str. The origin of these names, for the error.
        offset: int. Subtracted from the labels; None: not known.

    Returns:
        The index.

    Raises:
        UserError: An intact record has a negative label, or one beyond the names, or beyond the number of
            records where there are no names.
    """
    checked = 0
    while len(index):
        wrong = np.flatnonzero(_impossible(index, rows, offset))
        if rows is None and not wrong.size:
            # The number of classes must not come from a damaged record.
            wrong = index.labels.argmax(keepdims=True)
            if index.is_intact(wrong[0]):
                return index
        elif not wrong.size:
            return index
        intact = next((row for row in wrong[:MOST_CHECKED] if index.is_intact(row)), None)
        if intact is not None:
            raise _label_error(index, intact, rows, where, offset)
        checked += len(wrong)
        if checked >= MOST_CHECKED:
            raise UserError(
                f"{index.describe(wrong[0])} and {checked - 1} more records have impossible labels and wrong"
                " checksums; the files are damaged: restore them"
            )
        index = index.without(wrong, WRONG_CHECKSUM)
    name, (_, reason) = next(iter(index.damaged.items()))
    raise UserError(f"no record can be read; {name}: {reason}")


def _impossible(index: RecordIndex, rows: Sequence[str] | None, offset: int | None) -> np.ndarray:
    """(N,) bool: the labels that are no classes."""
    first = offset or 0
    if rows is not None:
        # A background has a row of its own.  Without an offset, labels may count from 1.
        below = len(rows) + (0 if has_background_row(rows) else first) + (offset is None)
        return (index.labels < first) | (index.labels >= below)
    beyond = index.labels >= len(index) + first
    if beyond.any():  # a few records of many classes, if they name them
        named = np.isin(index.labels, np.array(list(index.texts), np.int64))
        beyond &= ~named | (index.labels >= MOST_CLASSES)
    return (index.labels < first) | beyond


def _label_error(
    index: RecordIndex, row: int, rows: Sequence[str] | None, where: str, offset: int | None
) -> UserError:
    label, first = int(index.labels[row]), offset or 0
    has = f"{index.describe(row)} has label {label}"
    if label < 0:
        return UserError(
            f"{has}; labels count from 0, and this one is no class: correct the record"
        )
    if label < first:
        return UserError(f"{has}, below the label offset {first}; use --label-offset {label}")
    if rows is not None:
        return UserError(
            f"{has}, and {where} has {len(rows)} names; give a complete list with --labels FILE, or correct the"
            " record"
        )
    counted_from_1 = first == 0 and index.labels.min() == 1
    more = ", or give --label-offset 1 if labels count from 1" if counted_from_1 else ""
    return UserError(
        f"{has}, which makes {label - first + 1:,} classes of {len(index):,} records; correct it, or name all"
        f" classes in a labels.txt beside the files or with --labels FILE{more}"
    )


def find_record_files(pattern: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The TFRecord files that match a pattern.

    Args:
        pattern: str. A glob, or the path of one file.

    Returns:
        Their paths, and path → reason of what matches and is no TFRecord file.

    Raises:
        UserError: None matches.
    """
    matched = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
    if os.path.isdir(pattern):
        raise UserError(f"{pattern} is a folder; give tfrecord:{pattern}/*, in quotes")
    unread = {}
    for file in matched:
        kind = retry_lost(partial(kind_of_file, file))
        kind = kind or NOT_RECORDS.get(os.path.splitext(file)[1].lower())
        if kind:
            unread[file] = kind
    files = tuple(file for file in matched if file not in unread)
    if files:
        return files, unread
    found = [f"{printable(file)} ({kind})" for file, kind in list(unread.items())[:LISTED]]
    beside = f": {', '.join(found)}{', ...' if len(unread) > LISTED else ''}" if found else ""
    raise no_records(pattern, beside)


def _assign_files(
    name: str, pattern: str, files: tuple[str, ...], chosen: str | None
) -> dict[str, list[str]]:
    """split → files, by words in their names and in those of their folders; empty if there are none."""
    folder = _fixed_folder(pattern)
    shown = {os.path.relpath(file, folder): file for file in files}
    if chosen is not None:
        assigned = assign_splits(shown, name, chosen=chosen, kind="files", by_word=True)
        return {split: [shown[one] for one in names] for split, names in assigned.items()}
    inside = os.path.basename(os.path.abspath(folder))
    if split_of(inside):  # all files lie in a folder named like a split
        shown = {os.path.join(inside, one): file for one, file in shown.items()}
    groups: dict[str, list[str]] = {}  # shards of one set have one name, but for their numbers
    for one in shown:
        groups.setdefault(re.sub(r"\d+", "*", one), []).append(one)
    # A single file has its own name.
    named = {group if len(ones) > 1 else ones[0]: ones for group, ones in groups.items()}
    assigned = assign_splits(named, name, kind="files", by_word=True)
    return {
        split: [shown[one] for group in names for one in named[group]]
        for split, names in assigned.items()
    }


def _fixed_folder(pattern: str) -> str:
    """The part of a pattern before the first folder or file with a wildcard."""
    parts = Path(pattern).parts[:-1]
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return os.path.join(*parts[:fixed]) if fixed else "."


def _read_names(files: tuple[str, ...], given: str | None) -> tuple[tuple[str, ...] | None, str]:
    """The list of class names and the file it is from; None without one."""
    if given:
        return read_class_names(given), given
    folders = dict.fromkeys(os.path.dirname(file) for file in files)
    paths = [os.path.join(folder, name) for folder in folders for name in LABEL_FILES]
    found = {path: read_class_names(path) for path in paths if os.path.lexists(path)}
    if len(set(found.values())) > 1:
        one, other, *_ = {names: path for path, names in found.items()}.values()
        raise UserError(f"{one} and {other} name different classes; choose one with --labels FILE")
    return next(((names, path) for path, names in found.items()), (None, ""))


def _warnings(index: RecordIndex, rows: Sequence[str] | None, offset: int) -> Iterator[str]:
    if index.damaged:
        found = [f"{name} ({reason})" for name, (_, reason) in index.damaged.items()]
        yield f"{counted(len(found), 'record')} skipped as unreadable: {listed(found)}"
    if rows is None and not offset and index.labels.min() == 1:
        yield "no record has label 0; give --label-offset 1 if the labels count from 1"


def _class_names(
    index: RecordIndex, rows: Sequence[str] | None, where: str, offset: int | None
) -> tuple[tuple[str, ...], bool, int]:
    """The name of each class, whether the data names all of them, and the label offset."""
    low, high = int(index.labels.min()), int(index.labels.max())
    if rows is not None:
        try:
            names, offset = names_by_class(
                rows,
                where=where,
                lowest=low,
                highest=high,
                label_offset=offset,
                texts=index.texts,
            )
        except UserError as error:
            record = index.describe(int(index.labels.argmax()))
            raise UserError(f"{error} ({record} has label {high})") from error
        return names, True, offset
    offset = offset or 0
    numbers = range(high - offset + 1)
    named = all(number + offset in index.texts for number in numbers)
    stated = [index.texts.get(number + offset, str(number)) for number in numbers]
    # ImageNet has two classes "crane": its records' names alone do not tell them apart.
    repeated = Counter(stated)
    names = tuple(f"{n} ({k})" if repeated[n] > 1 else n for k, n in enumerate(stated))
    return names, named, offset
