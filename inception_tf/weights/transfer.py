# SPDX-License-Identifier: Apache-2.0
"""Assignment of arrays to a model's variables by name, with three checks, all or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inception_tf.errors import UserError
from inception_tf.models import SCALE
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.stored import abbreviate
from inception_tf.weights.gamma import FOLDED, default_gammas, fold_gammas, foldable_gammas
from inception_tf.weights.heads import (
    HeadError,
    adapt_heads,
    drop_first_class,
    is_auxiliary,
    is_head,
    is_logits,
    omitted_heads,
    unsupported_head,
)

if TYPE_CHECKING:
    import keras

    Variables = Mapping[str, keras.Variable]

__all__ = ["MisfitError", "Report", "assign", "is_float"]

# Path of the variable, its shape, the array's shape.
Mismatch = tuple[str, tuple[int, ...], tuple[int, ...]]


class MisfitError(UserError):
    """The arrays of a file are not those of the model."""


@dataclass(frozen=True)
class Report:
    """The result of loading weights; `read` is `used`, `unused` and the arrays of `mismatched`."""

    read: tuple[str, ...]  # all arrays of the file, by the file's names
    used: tuple[str, ...]  # those assigned to the model
    unused: tuple[str, ...]  # those without a variable in the model
    missing: tuple[str, ...]  # paths of the model's variables without an array in the file
    mismatched: tuple[Mismatch, ...]  # variables and arrays of different shapes
    notes: tuple[str, ...] = ()  # sentences about adaptations and differences
    training_state: tuple[
        str, ...
    ] = ()  # names of optimizer slots and the like, which are not read

    def __str__(self) -> str:
        parts = [f"{len(self.read)} arrays read, {len(self.used)} used"]
        parts += [
            f"{len(names)} {kind} ({abbreviate(names)})"
            for kind, names in (("unused", self.unused), ("missing", self.missing))
            if names
        ]
        if self.mismatched:
            parts.append(f"{len(self.mismatched)} of another shape ({_shapes(self.mismatched)})")
        if self.training_state:
            parts.append(
                f"{len(self.training_state)} of the training state skipped ({abbreviate(self.training_state)})"
            )
        return "; ".join((*parts, *self.notes)) + "."


def assign(
    model: keras.Model,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    *,
    strict: bool = True,
    skip_head: bool = False,
    drop_background: bool = False,
    adapt_head: bool = False,
    notes: tuple[str, ...] = (),
    training_state: tuple[str, ...] = (),
    read: Callable[[Container[str]], Mapping[str, np.ndarray]] | None = None,
) -> Report:
    """Assign arrays to a model's variables by name; with `strict` all of them or none.

    Names and shapes are checked first; only then are the arrays that fit read, and none is assigned unless all
    numbers are finite.

    A logits kernel of a 1x1 convolution, (1, 1, C, K), becomes a dense kernel, (C, K).  A first kernel
    for another number of input channels is adapted.  Gammas that the model lacks are folded into its
    kernels; where the file has none, those of the model become 1.

    Args:
        model: The model.
        arrays: Foreign name → array, or with `read` a placeholder of its shape and dtype.
        names: Our variable path (`Mixed_5b_b1_0_conv/kernel`) → foreign name.  It may include
            classifiers that the model was built without: their arrays are reported as unused and are
            no error, so that the file of a training model fits one for evaluation, or a backbone.
        strict: bool. Require an array of the same shape for every variable, and a variable for every
            array but those of omitted classifiers; otherwise assign what fits.
        skip_head: bool. Leave the model's classifiers unchanged.
        drop_background: bool. Skip the first class of a file that has one class more than the model.
        adapt_head: bool. Leave the model's classifiers unchanged where the file's has other classes, another structure,
            or is missing, and drop the background of ImageNet's 1,001 classes for a model of 1,000; the report says
            so.
        notes, training_state: For the report.
        read: Reads the arrays of these foreign names.

    Returns:
        The report.

    Raises:
        UserError: An array is of another type or has numbers that are not finite, none of the arrays fits, or with `strict` not all; the model is unchanged.
    """
    ours = {variable.path: variable for variable in model.weights}
    heads = {path for path in {*ours, *names} if is_head(path)}
    if adapt_head and f"{LOGITS}/kernel" in ours and not skip_head:
        skip_head, drop_background, note = adapt_heads(ours, arrays, names)
        notes += (note,) if note else ()
    skipped = heads if skip_head else set()
    found = {
        path: _reshaped(arrays[names[path]], tuple(variable.shape))
        for path, variable in ours.items()
        if names.get(path) in arrays and path not in skipped
    }
    gammas = {p: arrays[n] for p, n in names.items() if p not in ours and n in arrays}
    folded = foldable_gammas(found, gammas)
    ones, note = default_gammas(found, {p: tuple(v.shape) for p, v in ours.items()})
    notes += (note,) if note else ()
    if drop_background:
        notes += drop_first_class(found, ours, heads)
    notes += _adapt_first_kernel(found, ours)
    report = _report(ours, arrays, names, found, folded, ones, notes, training_state)
    if strict:
        allowed = omitted_heads(ours, names) | {names[path] for path in skipped if path in names}
        _check_fit(
            model,
            [path for path in report.missing if path not in skipped],
            [name for name in report.unused if name not in allowed],
            report.mismatched,
            unsupported_head(names, arrays),
        )
    if not report.used:
        raise MisfitError(
            f"none of the file's {len(report.read)} arrays fits a variable of the model '{model.name}'; nothing was"
            " loaded: give the file of this network"
        )
    wrong = {path for path, _, _ in report.mismatched}
    fitting = {path: found[path] for path in found if path not in wrong}
    gammas = {path: gammas[path] for path in folded}
    _check_types(fitting | gammas, names)
    if read:
        values = read({names[path] for path in (*fitting, *gammas)})
        gammas = {path: values[names[path]] for path in gammas}
        fitting = {p: _reshaped(values[names[p]], tuple(ours[p].shape)) for p in fitting}
        if drop_background:
            drop_first_class(fitting, ours, heads)
        _adapt_first_kernel(fitting, ours)
    _check_finite(gammas, names)
    note = fold_gammas(fitting, gammas)
    _check_finite(fitting, names)
    for path, array in (fitting | ones).items():
        ours[path].assign(array)
    if FOLDED in note:
        note += f"; create the model with {SCALE}=True to keep them"
    return dataclasses.replace(report, notes=(*report.notes, note)) if note else report


def _check_types(found: Mapping[str, np.ndarray], names: Mapping[str, str]) -> None:
    wrong = [path for path, array in found.items() if not is_float(array.dtype)]
    if wrong:
        raise UserError(
            f"{len(wrong)} arrays of the file are not of floating point"
            f" ({abbreviate(f'{names[path]} is {found[path].dtype}' for path in wrong)}); nothing was loaded:"
            " give the file with the weights as they were trained"
        )


def _check_finite(found: Mapping[str, np.ndarray], names: Mapping[str, str]) -> None:
    """Variables are float32 at most, in which a larger number is infinite."""
    with np.errstate(over="ignore"):
        counts = {
            path: int(np.size(array) - np.count_nonzero(np.isfinite(array.astype(np.float32))))
            for path, array in found.items()
        }
    wrong = [f"{names[path]} has {count:,}" for path, count in counts.items() if count]
    if wrong:
        raise UserError(
            f"{len(wrong)} arrays of the file have numbers that are not finite ({abbreviate(wrong)}); nothing was"
            " loaded: give a file from before the training failed, or an undamaged one"
        )


def is_float(dtype: np.dtype) -> bool:
    """Whether arrays of a type can be weights.

    Args:
        dtype: The type.

    Returns:
        True for floating point numbers of 2 bytes or more, bfloat16 too.
    """
    import ml_dtypes

    return np.issubdtype(dtype, np.floating) or dtype == ml_dtypes.bfloat16


def _report(
    ours: Variables,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    found: dict[str, np.ndarray],
    folded: list[str],
    default: Container[str],
    notes: tuple[str, ...],
    training_state: tuple[str, ...],
) -> Report:
    fits = [path for path in found if found[path].shape == tuple(ours[path].shape)]
    touched = {names[path] for path in (*found, *folded)}
    return Report(
        read=tuple(arrays),
        used=tuple(names[path] for path in (*fits, *folded)),
        unused=tuple(name for name in arrays if name not in touched),
        missing=tuple(path for path in ours if path not in found and path not in default),
        mismatched=tuple(
            (path, tuple(ours[path].shape), found[path].shape) for path in found if path not in fits
        ),
        notes=notes,
        training_state=training_state,
    )


def _adapt_first_kernel(found: dict[str, np.ndarray], ours: Variables) -> tuple[str, ...]:
    """Adapt the first kernel in `found` to the model's input channels; return a note for the report."""
    first = next((path for path in ours if path in found), "")
    if not first.endswith("/kernel") or found[first].ndim != 4:
        return ()
    theirs, wanted = found[first].shape, tuple(ours[first].shape)
    if theirs[2] == wanted[2] or theirs[:2] + theirs[3:] != wanted[:2] + wanted[3:]:
        return ()
    found[first] = _adapted(found[first], wanted[2])
    return (f"{first} adapted from {theirs[2]} to {wanted[2]} input channels",)


def _adapted(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The first kernel (H, W, in, out) for another number of input channels.

    One channel: the sum over all, which is exact for a gray image.  Otherwise: the channels repeated in
    turn and rescaled to keep the magnitude of the sum, as in timm.
    """
    before = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % before] * np.float32(before / channels)


def _reshaped(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A 1x1 convolution's kernel for a dense layer, or a dense kernel over a feature map for a convolution over it."""
    if array.ndim == 4 and array.shape[:2] == (1, 1) and len(shape) == 2:
        return array[0, 0]
    if array.ndim == 2 and len(shape) == 4:
        height, width, channels, filters = shape
        if array.shape == (channels * height * width, filters):  # torch flattens channels first
            return array.reshape(channels, height, width, filters).transpose(1, 2, 0, 3)
    return array


def _shapes(mismatched: Iterable[Mismatch]) -> str:
    return abbreviate(
        f"{path} is {theirs} in the file and {ours} in the model"
        for path, ours, theirs in mismatched
    )


def _differ_in_classes(mismatch: Mismatch) -> bool:
    _, ours, theirs = mismatch
    return len(ours) == len(theirs) and ours[:-1] == theirs[:-1] and theirs[-1] > 0


def _check_fit(
    model: keras.Model,
    missing: list[str],
    unused: list[str],
    mismatched: tuple[Mismatch, ...],
    unsupported: list[str],
) -> None:
    """The three checks; the most likely mistakes have their own messages."""
    if not (missing or unused or mismatched):
        return
    if unsupported and set(unused) == set(unsupported) and all(map(is_logits, missing)):
        raise HeadError(unsupported)
    if (
        mismatched
        and not missing
        and all(is_head(m[0]) and _differ_in_classes(m) for m in mismatched)
    ):
        path, ours, theirs = mismatched[0]
        is_background = theirs[-1] == ours[-1] + 1
        less = ", or load with drop_background=True (--drop-background) to skip the first of them"
        raise UserError(
            f"{path} has {theirs[-1]} classes in the file and {ours[-1]} in the model; create the"
            f" model with classes={theirs[-1]}{less if is_background else ''}, or load with"
            " strict=False to keep its classifier"
        )
    if missing and not mismatched and not unused and all(map(is_auxiliary, missing)):
        raise UserError(
            f"the file has no auxiliary classifier ({abbreviate(missing)}); create the model with"
            " aux_logits=False, or load with strict=False to keep the auxiliary classifier"
        )
    parts = []
    if missing:
        parts.append(
            f"the file lacks {len(missing)} of the model's variables ({abbreviate(missing)})"
        )
    if unused:
        parts.append(
            f"the model has no variable for {len(unused)} of the file's arrays ({abbreviate(unused)})"
        )
    if mismatched:
        parts.append(f"{len(mismatched)} shapes differ ({_shapes(mismatched)})")
    raise MisfitError(
        f"the file does not fit the model '{model.name}': {'; '.join(parts)}; nothing was loaded:"
        " create the network that wrote the file, or load what fits with strict=False"
    )
