# SPDX-License-Identifier: Apache-2.0
"""The classifiers of a file and of a model: which there are, and how one is fitted to the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from inception_tf.data.labels import has_background_output
from inception_tf.errors import UserError
from inception_tf.models import NETWORKS
from inception_tf.nn.network import LOGITS
from inception_tf.weights.formats.stored import abbreviate

if TYPE_CHECKING:
    import keras

    Variables = Mapping[str, keras.Variable]

__all__ = [
    "HeadError",
    "NEW_HEAD",
    "adapt_heads",
    "drop_first_class",
    "is_auxiliary",
    "is_head",
    "is_logits",
    "omitted_heads",
    "unsupported_head",
]

NEW_HEAD = "the classifier is new, with random weights"  # how a note about it begins


class HeadError(UserError):
    """The classifier in a file has another structure than the network's.

    Args:
        found: What `unsupported_head` returned.
    """

    def __init__(self, found: Iterable[str]):
        super().__init__(
            f"the classifier in the file has another structure than this network's ({abbreviate(found)}); load the"
            " backbone alone with skip_head=True, on the command line --skip-head"
        )


def _layer(path: str) -> str:
    return path.split("/")[0]


def _auxiliaries() -> set[str]:
    return {aux.name for network in NETWORKS.values() for aux in network.auxiliaries}


def is_logits(path: str) -> bool:
    """Whether a variable belongs to the main classifier.

    Args:
        path: The variable's path.

    Returns:
        True where its layer is the logits'.
    """
    return _layer(path) == LOGITS


def is_head(path: str) -> bool:
    """Whether a variable is one of a classifier, whose shape depends on the classes.

    Args:
        path: The variable's path.

    Returns:
        True for the logits of the main classifier and of the auxiliary ones.
    """
    return _layer(path) in {LOGITS, *_auxiliaries()}


def is_auxiliary(path: str) -> bool:
    """Whether a variable belongs to an auxiliary classifier.

    Args:
        path: The variable's path.

    Returns:
        True for its logits and for the layers before them.
    """
    return any(_layer(path) == name or path.startswith(f"{name}_") for name in _auxiliaries())


def omitted_heads(ours: Iterable[str], names: Mapping[str, str]) -> set[str]:
    """The arrays of classifiers that the model was built without.

    Args:
        ours: Paths of the model's variables.
        names: Our variable path → foreign name.

    Returns:
        Foreign names.
    """
    layers = {_layer(path) for path in ours}
    return {
        theirs
        for path, theirs in names.items()
        if _layer(path) not in layers and (is_logits(path) or is_auxiliary(path))
    }


def unsupported_head(names: Mapping[str, str], arrays: Iterable[str]) -> list[str]:
    """The arrays of a classifier whose structure our network does not have.

    Args:
        names: Our variable path → foreign name.
        arrays: Foreign names in the file.

    Returns:
        Foreign names.
    """
    ours = {f"{LOGITS}/kernel", f"{LOGITS}/bias"}
    return [
        theirs
        for path, theirs in names.items()
        if is_logits(path) and path not in ours and theirs in arrays
    ]


def adapt_heads(
    ours: Variables, arrays: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> tuple[bool, bool, str]:
    """How a file's classifier is fitted to a model with classes of its own.

    Args:
        ours: Path → variable of the model, which has the main classifier.
        arrays: Foreign name → array.
        names: Our variable path → foreign name.

    Returns:
        Whether to skip the file's classifier, whether to drop its background, and a note for the report.
    """
    classes = ours[f"{LOGITS}/kernel"].shape[-1]
    head = arrays.get(names.get(f"{LOGITS}/kernel", ""))
    if head is None or not head.ndim:
        return True, False, f"{NEW_HEAD}: the file has none that fits"
    if head.shape[-1] == classes:
        return False, False, ""
    if head.shape[-1] == classes + 1 and has_background_output(head.shape[-1]):
        return False, True, ""
    return (
        True,
        False,
        f"{NEW_HEAD}: the file has {head.shape[-1]} classes, and the model {classes}",
    )


def drop_first_class(
    found: dict[str, np.ndarray], ours: Variables, heads: Iterable[str]
) -> tuple[str, ...]:
    """Removes the first class of the classifiers that have one class too many.

    Args:
        found: Path → array of the file, changed in place.
        ours: Path → variable of the model.
        heads: The paths of classifiers.

    Returns:
        Notes for the report.
    """
    notes: tuple[str, ...] = ()
    for path in [path for path in ours if path in found and path in heads]:
        classes = found[path].shape[-1]
        if classes == ours[path].shape[-1] + 1:
            found[path] = found[path][..., 1:]
            notes = (f"first class of {classes} dropped",)
    return notes
