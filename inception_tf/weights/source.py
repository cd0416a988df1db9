# SPDX-License-Identifier: Apache-2.0
"""One interface for the weights of all projects: a file format and a naming scheme."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

__all__ = ["WeightSource", "WeightsFile"]


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file."""

    arrays: Mapping[str, np.ndarray]  # by the file's names; placeholders where they are not wanted
    training_state: tuple[
        str, ...
    ] = ()  # names of optimizer slots and the like, which are not read
    notes: tuple[str, ...] = ()  # sentences for the report


def _no_variants(name: str, arrays: Mapping[str, np.ndarray]) -> Sequence[Mapping[str, Any]]:
    return ({},)


@dataclass(frozen=True)
class WeightSource:
    """How to read and map the weights of one project; `load_weights`, `convert` and fine-tuning use nothing else."""

    # (path, ema, wanted, limit) → file: with `ema` the moving averages instead of the weights; the arrays that are
    # `wanted`, all others as placeholders of their shape; at most `limit` bytes unpacked or parsed at once.
    read: Callable[[str, bool, Container[str], int], WeightsFile]
    # model → what `map_names` accepts: its network; a UserError for a model of no network of the project.
    identify: Callable[[keras.Model], Any]
    # (network, arrays, ema) → our variable path → the file's name.
    map_names: Callable[[Any, Mapping[str, np.ndarray], bool], dict[str, str]]
    # (name of our network, arrays) → the switches that a file may need, to be chosen by which of its arrays fit.
    variants: Callable[[str, Mapping[str, np.ndarray]], Sequence[Mapping[str, Any]]] = _no_variants
    # Whether all variants have the same arrays, so that several of `variants` cannot be told apart.
    same_arrays: bool = False
    has_ema: bool = False  # whether the files have moving averages beside the weights
