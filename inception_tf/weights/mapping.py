# SPDX-License-Identifier: Apache-2.0
"""Weights from one naming into another: by path, with three checks, all or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from inception_tf.errors import UserError
from inception_tf.models import NETWORKS
from inception_tf.models.build import LOGITS

__all__ = ["Report", "fill"]

SHOWN = 3  # names that a sentence spells out; it counts the others


@dataclass(frozen=True)
class Report:
    """What an exchange found; `read` is `used`, `unused` and the file's side of `mismatched` together."""

    read: tuple[str, ...]  # every array of the file, under the file's names
    used: tuple[str, ...]  # those that went into the model
    unused: tuple[str, ...]  # those that the model has no variable for
    missing: tuple[str, ...]  # the model's variables that the file has no array for
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # ours, its shape, theirs

    def __str__(self) -> str:
        parts = [f"{len(self.read)} arrays read, {len(self.used)} used"]
        parts += [
            f"{len(names)} {kind} ({listed(names)})"
            for kind, names in (("unused", self.unused), ("missing", self.missing))
            if names
        ]
        if self.mismatched:
            parts.append(f"{len(self.mismatched)} of another shape ({_shapes(self.mismatched)})")
        return "; ".join(parts) + "."


def fill(
    model, arrays: Mapping[str, np.ndarray], names: Mapping[str, str], *, strict: bool = True
) -> Report:
    """Assigns `arrays` to the model's variables and reports; under `strict` all of them or none.

    names: our variable path (`Mixed_5b_b1_0_conv/kernel`) → the foreign name.  It may name heads
        that the model was built without: what a file has for a left-out classifier or auxiliary
        classifier is reported as unused and refused by no one, so that a training model's file
        fits the model that is evaluated, served, or cut off below its classifier.
    strict: raises `UserError`, with nothing assigned, unless each variable of the model is filled,
        each array is used or belongs to a left-out head, and each shape is equal.  Otherwise what
        fits is assigned.
    A logits kernel that is a 1x1 convolution there, (1, 1, C, K), is a dense one here, (C, K).
    """
    ours = {variable.path: variable for variable in model.weights}
    found = {
        path: _dense(arrays[names[path]], len(variable.shape))
        for path, variable in ours.items()
        if names.get(path) in arrays
    }
    fits = [path for path in found if found[path].shape == tuple(ours[path].shape)]
    touched = {names[path] for path in found}
    report = Report(
        read=tuple(arrays),
        used=tuple(names[path] for path in fits),
        unused=tuple(name for name in arrays if name not in touched),
        missing=tuple(path for path in ours if path not in found),
        mismatched=tuple(
            (path, tuple(ours[path].shape), found[path].shape) for path in found if path not in fits
        ),
    )
    if strict:
        left_out = _left_out(ours, names)
        _refuse(model, report, [name for name in report.unused if name not in left_out])
    for path in fits:
        ours[path].assign(found[path])
    return report


def listed(names: Iterable[str]) -> str:
    """`a, b, c and 12 more`."""
    names = list(names)
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _layer(path: str) -> str:
    return path.split("/")[0]


def _auxiliaries() -> set[str]:
    return {aux.name for network in NETWORKS.values() for aux in network.auxiliaries}


def _is_auxiliary(path: str) -> bool:
    return any(_layer(path) == name or path.startswith(f"{name}_") for name in _auxiliaries())


def _left_out(ours: Iterable[str], names: Mapping[str, str]) -> set[str]:
    """Foreign names of heads that the model was built without."""
    layers = {_layer(path) for path in ours}
    return {
        theirs
        for path, theirs in names.items()
        if _layer(path) not in layers and (_layer(path) == LOGITS or _is_auxiliary(path))
    }


def _dense(array: np.ndarray, rank: int) -> np.ndarray:
    is_pointwise = array.ndim == 4 and array.shape[:2] == (1, 1)
    return array[0, 0] if is_pointwise and rank == 2 else array


def _shapes(mismatched) -> str:
    return listed(
        f"{path} is {theirs} in the file and {ours} in the model"
        for path, ours, theirs in mismatched
    )


def _refuse(model, report: Report, unused: list[str]) -> None:
    """The three checks, from the likeliest mistake to the others."""
    missing, mismatched = report.missing, report.mismatched
    if not (missing or unused or mismatched):
        return
    classifiers = {LOGITS, *_auxiliaries()}
    if mismatched and not missing and all(_layer(m[0]) in classifiers for m in mismatched):
        path, ours, theirs = mismatched[0]
        raise UserError(
            f"{path} has {theirs[-1]} classes in the file and {ours[-1]} in the model; create the"
            f" model with classes={theirs[-1]}, or load with strict=False to leave its classifier as it is"
        )
    if missing and not mismatched and not unused and all(map(_is_auxiliary, missing)):
        raise UserError(
            f"the file has no auxiliary classifier ({listed(missing)}); create the model with"
            " aux_logits=False, or load with strict=False to leave the auxiliary classifier as it is"
        )
    parts = []
    if missing:
        parts.append(f"the file lacks {len(missing)} of its variables ({listed(missing)})")
    if unused:
        parts.append(f"it has no place for {len(unused)} of the file's arrays ({listed(unused)})")
    if mismatched:
        parts.append(f"{len(mismatched)} shapes differ ({_shapes(mismatched)})")
    raise UserError(
        f"the file does not fit the model '{model.name}': {'; '.join(parts)}; nothing was loaded:"
        " create the network that wrote the file, or load what fits with strict=False"
    )
