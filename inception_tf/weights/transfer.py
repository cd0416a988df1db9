# SPDX-License-Identifier: Apache-2.0
"""Weights from one naming into another: by path, with three checks, all or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from inception_tf.errors import UserError
from inception_tf.models import NETWORKS
from inception_tf.nn.network import LOGITS

__all__ = ["Report", "fill", "listed", "other_head", "refuse_other_head"]

SHOWN = 3  # names that a sentence spells out; it counts the others


@dataclass(frozen=True)
class Report:
    """What an exchange found; `read` is `used`, `unused` and the file's side of `mismatched` together."""

    read: tuple[str, ...]  # every array of the file, under the file's names
    used: tuple[str, ...]  # those that went into the model
    unused: tuple[str, ...]  # those that the model has no variable for
    missing: tuple[str, ...]  # the model's variables that the file has no array for
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # ours, its shape, theirs
    notes: tuple[str, ...] = ()  # what was changed on the way, and what to know
    set_aside: tuple[str, ...] = ()  # what a trainer keeps beside the weights: known, not read

    def __str__(self) -> str:
        parts = [f"{len(self.read)} arrays read, {len(self.used)} used"]
        parts += [
            f"{len(names)} {kind} ({listed(names)})"
            for kind, names in (("unused", self.unused), ("missing", self.missing))
            if names
        ]
        if self.mismatched:
            parts.append(f"{len(self.mismatched)} of another shape ({_shapes(self.mismatched)})")
        if self.set_aside:
            parts.append(
                f"{len(self.set_aside)} of the trainer's set aside ({listed(self.set_aside)})"
            )
        return "; ".join((*parts, *self.notes)) + "."


def fill(
    model,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    *,
    strict: bool = True,
    skip_head: bool = False,
    drop_background: bool = False,
    notes: tuple[str, ...] = (),
    set_aside: tuple[str, ...] = (),
) -> Report:
    """Assigns `arrays` to the model's variables and reports; under `strict` all of them or none.

    names: our variable path (`Mixed_5b_b1_0_conv/kernel`) → the foreign name.  It may name heads
        that the model was built without: what a file has for a left-out classifier or auxiliary
        classifier is reported as unused and refused by no one, so that a training model's file
        fits the model that is evaluated, served, or cut off below its classifier.
    strict: raises `UserError`, with nothing assigned, unless each variable of the model is filled,
        each array is used or belongs to a left-out head, and each shape is equal.  Otherwise what
        fits is assigned.
    skip_head: leave the model's classifiers as they are, whatever the file has for them.
    drop_background: leave out the first class of a file that has one class more than the model.
    notes, set_aside: for the report.
    A logits kernel that is a 1x1 convolution there, (1, 1, C, K), is a dense one here, (C, K).
    A first kernel for another number of input channels is adapted as `_adapted` says.
    """
    ours = {variable.path: variable for variable in model.weights}
    heads = {path for path in {*ours, *names} if _layer(path) in _classifiers()}
    skipped = heads if skip_head else set()
    found = {
        path: _dense(arrays[names[path]], len(variable.shape))
        for path, variable in ours.items()
        if names.get(path) in arrays and path not in skipped
    }
    if drop_background:
        notes += _drop_background(found, ours, heads)
    notes += _adapt_first_kernel(found, ours)
    report = _report(ours, arrays, names, found, notes, set_aside)
    if strict:
        allowed = _left_out(ours, names) | {names[path] for path in skipped if path in names}
        _refuse(
            model,
            [path for path in report.missing if path not in skipped],
            [name for name in report.unused if name not in allowed],
            report.mismatched,
            other_head(names, arrays),
        )
    wrong = {path for path, _, _ in report.mismatched}
    for path in found.keys() - wrong:
        ours[path].assign(found[path])
    return report


def _report(ours, arrays, names, found, notes, set_aside) -> Report:
    fits = [path for path in found if found[path].shape == tuple(ours[path].shape)]
    touched = {names[path] for path in found}
    return Report(
        read=tuple(arrays),
        used=tuple(names[path] for path in fits),
        unused=tuple(name for name in arrays if name not in touched),
        missing=tuple(path for path in ours if path not in found),
        mismatched=tuple(
            (path, tuple(ours[path].shape), found[path].shape) for path in found if path not in fits
        ),
        notes=notes,
        set_aside=set_aside,
    )


def _drop_background(found: dict, ours: Mapping, heads: Iterable[str]) -> tuple[str, ...]:
    """Takes the first class off the heads in `found` that have one class too many, and says so."""
    notes = ()
    for path in [path for path in ours if path in found and path in heads]:
        classes = found[path].shape[-1]
        if classes == ours[path].shape[-1] + 1:
            found[path] = found[path][..., 1:]
            notes = (f"first class of {classes} dropped",)
    return notes


def _adapt_first_kernel(found: dict, ours: Mapping) -> tuple[str, ...]:
    """Puts a first kernel for the model's input channels into `found`, and says so."""
    first = next((path for path in ours if path in found), "")
    if not first.endswith("/kernel") or found[first].ndim != 4:
        return ()
    theirs, wanted = found[first].shape, tuple(ours[first].shape)
    if theirs[2] == wanted[2] or theirs[:2] + theirs[3:] != wanted[:2] + wanted[3:]:
        return ()
    found[first] = _adapted(found[first], wanted[2])
    return (f"{first} adapted from {theirs[2]} to {wanted[2]} input channels",)


def _adapted(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first kernel (H, W, in, out) for another number of input channels.

    One channel: the sum over the old ones, so that a gray image gives what it gave as three equal
    channels.  Others: the old ones in turn, rescaled to keep the size of the sum, as timm does.
    """
    before = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % before] * np.float32(before / channels)


def listed(names: Iterable[str]) -> str:
    """`a, b, c and 12 more`."""
    names = list(names)
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _layer(path: str) -> str:
    return path.split("/")[0]


def _auxiliaries() -> set[str]:
    return {aux.name for network in NETWORKS.values() for aux in network.auxiliaries}


def _classifiers() -> set[str]:
    return {LOGITS, *_auxiliaries()}


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


def other_head(names: Mapping[str, str], arrays: Iterable[str]) -> list[str]:
    """What a file has of a classifier of another form, known by name and without a place in our networks."""
    ours = {f"{LOGITS}/kernel", f"{LOGITS}/bias"}
    return [
        theirs
        for path, theirs in names.items()
        if _layer(path) == LOGITS and path not in ours and theirs in arrays
    ]


def refuse_other_head(found: Iterable[str]) -> UserError:
    """What to say of it."""
    return UserError(
        f"the file has a classifier of another form than this network's ({listed(found)}); take the"
        " body alone with skip_head=True, on the command line --skip-head"
    )


def _dense(array: np.ndarray, rank: int) -> np.ndarray:
    is_pointwise = array.ndim == 4 and array.shape[:2] == (1, 1)
    return array[0, 0] if is_pointwise and rank == 2 else array


def _shapes(mismatched) -> str:
    return listed(
        f"{path} is {theirs} in the file and {ours} in the model"
        for path, ours, theirs in mismatched
    )


def _refuse(model, missing: list[str], unused: list[str], mismatched, other: list[str]) -> None:
    """The three checks, from the likeliest mistake to the others."""
    if not (missing or unused or mismatched):
        return
    if other and set(unused) == set(other) and all(_layer(path) == LOGITS for path in missing):
        raise refuse_other_head(other)
    if mismatched and not missing and all(_layer(m[0]) in _classifiers() for m in mismatched):
        path, ours, theirs = mismatched[0]
        is_background = theirs[-1] == ours[-1] + 1
        less = (
            ", or load with drop_background=True (--drop-background) to leave out the first of them"
        )
        raise UserError(
            f"{path} has {theirs[-1]} classes in the file and {ours[-1]} in the model; create the"
            f" model with classes={theirs[-1]}{less if is_background else ''}, or load with"
            " strict=False to leave its classifier as it is"
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
