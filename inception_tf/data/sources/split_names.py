# SPDX-License-Identifier: Apache-2.0
"""The names that data gives its splits: of folders, of TFRecord files and in TensorFlow Datasets alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from inception_tf.errors import UserError, printable, unknown

__all__ = [
    "NONE",
    "SPLITS",
    "assign_splits",
    "parse_split_names",
    "resembles_split",
    "split_of",
    "split_of_file",
]

SPLITS = ("train", "validation", "test")
# fmt: off
SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "eval": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}
# Beside or instead of such a word these say nothing about the images: `test_images`, `train2017`, `seg_train`.
FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "photos", "pictures", "pics", "split", "part",
           "folder", "dir", "files", "seg", "my", "new", "samples", "examples", "ds", "ilsvrc", "clsloc", "cls", "loc"}
# Neither the name of a split nor of a class.
UNCLEAR = {"validate", "validating", "evaluation", "evaluate", "evaluating", "holdout", "heldout", "tests", "trains",
           "tst", "vld", "vali", "valset", "testset", "trainset", "devset", "trainval", "traindata", "testdata",
           "trainingset", "validationset", "testingset", "trained", "tested"}
# fmt: on
NONE = "none"  # as `--split-names none`: no name is that of a split
EXAMPLE = "--split-names train=A,validation=B"


def parse_split_names(text: str) -> Mapping[str, tuple[str, ...]]:
    """Parse `--split-names`.

    Args:
        text: `train=A,validation=B`, where A and B are names or patterns as of a shell, and a split may be
            named more than once; or `none`.

    Returns:
        split → patterns; empty for `none`.

    Raises:
        UserError: The text has another form, or names no split.
    """
    if text.strip().lower() == NONE:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        split, equals, pattern = part.strip().partition("=")
        if not equals or not pattern:
            raise UserError(f"--split-names must be train=A,validation=B or none, got '{text}'")
        if split not in SPLITS:
            raise unknown("split in --split-names", split, SPLITS)
        found[split] = (*found.get(split, ()), pattern)
    return found


def split_of(name: str) -> str | None:
    """The split that a whole name states, in any case.

    Args:
        name: str. The name of a folder or of a TFDS split.

    Returns:
        `train`, `validation`, `test`, or None.
    """
    return SPLIT_WORDS.get(name.lower())


def split_of_file(name: str) -> str | None:
    """The split that a word in the name of a TFRecord file states.

    Args:
        name: str. A name such as `train-00000-of-00004` or `mnist-test.tfrecord-00000-of-00001`.

    Returns:
        `train`, `validation`, `test`, or None.

    Raises:
        UserError: Words of several splits are in it.
    """
    found = {SPLIT_WORDS[word] for word in _words(name) if word in SPLIT_WORDS}
    if len(found) > 1:
        raise UserError(
            f"the name of {printable(name)} has the words of {' and '.join(sorted(found))}; say which"
            f" files are which split: {EXAMPLE}"
        )
    return next(iter(found), None)


def resembles_split(name: str) -> bool:
    """Whether a name is that of a split, or so near to one that it can hardly be a class: `test_images`.

    Args:
        name: str. The name of a folder.

    Returns:
        True if all words are words of splits, or say nothing.
    """
    words = _words(name)
    like = [word for word in words if word in SPLIT_WORDS or word in UNCLEAR]
    return bool(like) and all(word in FILLERS for word in words if word not in like)


def assign_splits(
    names: Iterable[str],
    where: str,
    *,
    chosen: str | None = None,
    kind: str = "folders",
    by_word: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Assign names to splits; none is guessed, and none is excluded without being asked for.

    Args:
        names: Of folders, files or TFDS splits, each once.
        where: What they are in, for the error.
        chosen: str. The value of `--split-names`; names that it does not match are excluded.  None: by the
            names themselves.
        kind: str. What is named, for the error.
        by_word: A word in the name decides, as for files; False: the whole name.

    Returns:
        split → names, without empty splits; empty if no name is one of a split, or `chosen` is `none`.

    Raises:
        UserError: Names of splits stand beside others, or `chosen` matches none or several.
    """
    names = list(names)
    if chosen is not None:
        return _chosen(names, where, parse_split_names(chosen), kind)
    find = split_of_file if by_word else split_of
    found: dict[str, tuple[str, ...]] = {}
    others = []
    for name in names:
        split = find(name)
        if split:
            found[split] = (*found.get(split, ()), name)
        else:
            others.append(name)
    unclear = [name for name in others if not by_word and resembles_split(name)]
    if not found and not unclear:
        return {}
    if others:
        known = [name for group in found.values() for name in group]
        stated = f"{_listed(known)} beside {_listed(others)}" if known else _listed(others)
        raise UserError(
            f"{where} has the {kind} {stated}: say which are splits, {_example(found, others)},"
            " or that none is, --split-names none"
        )
    for split, group in found.items():
        if len(group) > 1 and not by_word:
            both = ",".join(f"{split}={name}" for name in group)
            raise UserError(
                f"{where} has the {kind} {_listed(group)}, which are all named like {split}; choose with"
                f" --split-names {split}={printable(group[0])}, or join them with --split-names {printable(both)}"
            )
    return {split: found[split] for split in SPLITS if split in found}


def _chosen(
    names: list[str], where: str, chosen: Mapping[str, tuple[str, ...]], kind: str
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    for split in (split for split in SPLITS if split in chosen):
        for pattern in chosen[split]:
            # A name with brackets is first of all itself.
            matched = [n for n in names if n == pattern] or [
                n for n in names if fnmatchcase(n, pattern)
            ]
            if not matched:
                raise UserError(
                    f"--split-names {split}={pattern} matches nothing: {where} has the {kind} {_listed(names)}"
                )
            for name in matched:
                if taken.setdefault(name, split) != split:
                    raise UserError(
                        f"--split-names gives '{printable(name)}' to {taken[name]} and to {split};"
                        " give it to one of them"
                    )
            found[split] = tuple(dict.fromkeys((*found.get(split, ()), *matched)))
    return found


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[^\W\d_]+", name)]


def _listed(names: Iterable[str], limit: int = 6) -> str:
    names = [f"'{printable(name)}'" for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def _example(found: Mapping[str, tuple[str, ...]], others: list[str]) -> str:
    """A `--split-names` with the names that were found."""
    parts = [f"{split}={name}" for split in SPLITS for name in found.get(split, ())]
    free = next((split for split in ("validation", "train") if split not in found), None)
    if free and len(parts) < 2:
        parts.append(f"{free}={others[0]}")
    return f"--split-names {printable(','.join(parts))}"
