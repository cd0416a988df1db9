# SPDX-License-Identifier: Apache-2.0
"""Class names: lists that users give, the file that a run and an export hold, and the row of a background."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inception_tf.errors import UserError, printable
from inception_tf.host.files import TEXT_LIMIT, check_no_pointer, open_regular

__all__ = [
    "check_class_names",
    "has_background_output",
    "has_background_row",
    "names_by_class",
    "names_shown",
    "read_class_names",
    "read_labels",
    "write_labels",
]

# A first row that names no class, as slim, Keras, the 2015 graph and detection sets write it.
BACKGROUND = ("background", "bg", "dummy", "unused background", "none of the above")
WITH_BACKGROUND = 1001  # classes of ImageNet and a background, as slim counts them
# Control characters, lone surrogates (bytes that are not UTF-8), line and paragraph separators: all that
# `str.splitlines` splits is among them.
REFUSED = ("Cc", "Cs", "Zl", "Zp")
BYTE_ORDER_MARK = "\ufeff"


def write_labels(path: str | Path, labels: Iterable[str]) -> None:
    """Write class names to a file.

    Args:
        path: The file, which is overwritten.
        labels: One name per class.
    """
    # Not the platform's line ends: TensorFlow reads the lines of an export's file up to "\n".
    Path(path).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8", newline="\n")


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read class names from a file that `write_labels` wrote, line by line as they are.

    Args:
        path: The file, of a run or of an export.

    Returns:
        One name per class.

    Raises:
        UserError: The file cannot be read as UTF-8.
    """
    lines = _read_text(Path(path)).split("\n")
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read a list of class names that a user or another project wrote.

    A text file has one name per line; a byte order mark, Windows' line ends, spaces around a name and blank
    last lines are no part of the names, and neither are slim's numbers (`0:cat`) where every line has one:
    these are the rows, in whatever order the lines are.  A `.json` file has a list of names, or Keras' form of it, `{"0": ["n01440764", "tench"], ...}`.

    Args:
        path: The file.

    Returns:
        One name per row.

    Raises:
        UserError: The file cannot be read, a name is empty, repeated or has a control character, or numbers
            are not those from 0 on.
    """
    path = Path(path)
    text = _read_text(path).removeprefix(BYTE_ORDER_MARK)
    if path.suffix.lower() == ".json":
        names = _names_in_json(text, path)
    else:
        names = [line.strip(" \t") for line in re.split(r"\r\n|\n|\r", text)]
        while names and not names[-1]:
            names.pop()
    if not names:
        raise UserError(f"{path} names no class; write one name per line")
    names = _by_number(names, path)
    check_class_names(names, str(path))
    return tuple(names)


def check_class_names(names: Sequence[str], where: str) -> None:
    """Check that names of classes can be written as lines and told apart.

    Args:
        names: One name per class.
        where: Their origin, for the error.

    Raises:
        UserError: A name is empty, has a line break or another control character, or is repeated, also in
            another Unicode form.
    """
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip():
            raise UserError(f"class {number} of {where} has an empty name; give every class a name")
        odd = next((c for c in name if unicodedata.category(c) in REFUSED), None)
        if odd is None and BYTE_ORDER_MARK in name:
            odd = BYTE_ORDER_MARK
        if odd is not None:
            raise UserError(
                f"class {number} of {where} is named '{printable(name)}', with the character"
                f" {_code(odd)}; names are written as lines of UTF-8 text: rename it"
            )
        folded = unicodedata.normalize("NFC", name)
        if folded in seen:
            first = seen[folded]
            raise UserError(
                f"classes {first} and {number} of {where} are both named '{name}'"
                f"{_forms(names[first], name)}; give them different names"
            )
        seen[folded] = number


def has_background_row(names: Sequence[str]) -> bool:
    """Whether the first of several names says that it is a background, which no image shows.

    Args:
        names: One name per row of a list, or per output of a network.

    Returns:
        True if the first is named as one, such as `background` or `dummy`.
    """
    return len(names) > 1 and re.sub(r"[\W_]+", " ", names[0]).strip().lower() in BACKGROUND


def has_background_output(classes: int, names: Sequence[str] | None = None) -> bool:
    """Whether the first output of a network is a background.

    Args:
        classes: How many outputs the network has.
        names: One per output; None where only their number is known.

    Returns:
        What the names say; without names, True for ImageNet's 1,000 classes and one more.
    """
    return has_background_row(names) if names else classes == WITH_BACKGROUND


def names_by_class(
    names: Sequence[str],
    *,
    where: str,
    lowest: int,
    highest: int,
    label_offset: int | None = None,
    texts: Mapping[int, str] | None = None,
) -> tuple[tuple[str, ...], int]:
    """The names of the classes 0, 1, ... of labelled data, from a list that may count a background or not.

    The first row is dropped only if it says that it is a background, or if names beside the labels show that
    the list counts it.  Where the labels leave open whether they count from 0 or from 1, nothing is guessed.

    Args:
        names: What `read_class_names` returned.
        where: The list's origin, for the error.
        lowest: int. The lowest label of the data, as stored.
        highest: int. The highest label.
        label_offset: int. Subtracted from the labels to give classes; None: to be found.
        texts: Names that the data itself gives some labels.

    Returns:
        One name per class, and the label offset.

    Raises:
        UserError: The list has too few names, or the labels that its rows belong to cannot be known.
    """
    first = _label_of_first_row(names, texts or {})
    offset = label_offset
    if offset is None:
        offset = _offset(names, where, lowest, highest, first)
    # Row 0 is label 0, which is no class where labels are moved.
    dropped = offset if first == 0 or (first is None and has_background_row(names)) else 0
    rows = tuple(names[dropped:])
    if len(rows) <= highest - offset:
        counted = f", less the first {dropped}," if dropped else ""
        is_from_1 = not offset and lowest > 0 and len(rows) == highest
        more = ", or --label-offset 1 if the labels count from 1" if is_from_1 else ""
        raise UserError(
            f"{where} has {len(names)} names{counted} and the data has label {highest}, which is class"
            f" {highest - offset}; give a complete list with --labels FILE{more}"
        )
    return rows, offset


def _offset(names: Sequence[str], where: str, lowest: int, highest: int, first: int | None) -> int:
    """The label offset, if names and labels leave no choice."""
    has_background = has_background_row(names)
    if first is not None:
        return 1 if first == 1 or (has_background and lowest > 0) else 0
    if has_background and lowest > 0:
        return 1  # no image shows row 0, which says that it is none of the classes
    if highest >= len(names):
        return 0  # too few names, which is an error of its own
    if lowest == 0 and not (has_background and highest < len(names) - 1):
        return 0
    why = (
        "the first is a background, but images have label 0"
        if lowest == 0
        else f"the lowest label is {lowest}"
    )
    raise UserError(
        f"{where} has {len(names)} names for labels up to {highest}, and {why}: say with --label-offset 0"
        f" that label 0 is '{names[0]}', with --label-offset 1 that label 1 is the first class, or give"
        " another list with --labels FILE"
    )


def _label_of_first_row(names: Sequence[str], texts: Mapping[int, str]) -> int | None:
    """0 or 1, whichever agrees with all names that the data gives its labels; None: neither, or both."""

    def agrees(first: int) -> bool:
        rows = {label - first: text for label, text in texts.items()}
        return bool(rows) and all(0 <= r < len(names) and names[r] == t for r, t in rows.items())

    found = [first for first in (0, 1) if agrees(first)]
    return found[0] if len(found) == 1 else None


def _by_number(names: list[str], path: Path) -> list[str]:
    """Names without their numbers, in the order of these; unchanged unless every name has one."""
    matches = [re.fullmatch(r"(\d{1,9}):\s*(.*)", name) for name in names]
    numbered = {int(match[1]): match[2] for match in matches if match}
    if not all(matches):
        return names
    if numbered.keys() != set(range(len(names))):
        wrong = next(n for n in range(len(names)) if n not in numbered)
        raise UserError(
            f"{path} numbers its {len(names)} names, and none has the number {wrong}; number them from 0 to"
            f" {len(names) - 1}, each once, or remove the numbers"
        )
    return [numbered[number] for number in range(len(names))]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of equal keys, Python's would keep the last alone."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(k for k in keys if keys.count(k) > 1)}' is repeated")
    return values


def _names_in_json(text: str, path: Path) -> list[str]:
    wanted = f'{path} must be a list of class names, ["cat", "dog"]'
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise UserError(f"{wanted}; it is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{wanted}; it is no JSON: {error}") from error
    if isinstance(values, dict):  # Keras' imagenet_class_index.json, or index to name
        if set(values) != {str(number) for number in range(len(values))}:
            raise UserError(f"{wanted}, or an object with the keys 0 to {len(values) - 1}")
        values = [values[str(number)] for number in range(len(values))]
        if all(isinstance(v, list) and len(v) == 2 for v in values):
            # ImageNet has two classes "crane" and two "maillot", which their synsets tell apart.
            repeated = Counter(str(name) for _, name in values)
            values = [f"{n} ({synset})" if repeated[str(n)] > 1 else n for synset, n in values]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(wanted)
    return values


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():  # a pipe would be read for ever
            raise UserError(f"cannot read labels from {path}: {_absence(path)}")
        with open_regular(str(path)) as file:
            content = file.read(TEXT_LIMIT + 1)
        if len(content) > TEXT_LIMIT:
            raise UserError(f"{path} is longer than {TEXT_LIMIT:,} bytes; give a list of names")
        check_no_pointer(str(path), content)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"cannot read labels from {path}: byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read labels from {path}: {error.strerror}") from error


def _absence(path: Path) -> str:
    return "not a regular file" if path.exists() else "No such file or directory"


def _code(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}{f' ({name.lower()})' if name else ''}"


def _forms(one: str, other: str) -> str:
    """Says how two names differ that look the same."""
    if one == other:
        return ""
    forms = ("NFC" if unicodedata.is_normalized("NFC", n) else "NFD" for n in (one, other))
    return " in the Unicode forms " + " and ".join(forms)


def names_shown(
    labels: Sequence[str], label: int, target: Sequence[bool] | None
) -> tuple[str, ...]:
    """Names the classes that an image shows.

    Args:
        labels: K class names.
        label: The class of an image that has one.
        target: Of multi-label data, K values: whether the image shows each class; None: it has one class.

    Returns:
        One name; of multi-label data any number.
    """
    if target is None:
        return (labels[label],)
    return tuple(name for name, shown in zip(labels, target, strict=True) if shown)
