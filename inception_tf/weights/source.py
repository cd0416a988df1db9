# SPDX-License-Identifier: Apache-2.0
"""What reading a project's weights takes: a file format and a naming scheme, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["WeightSource", "WeightsFile"]


@dataclass(frozen=True)
class WeightsFile:
    """What was read from a file."""

    arrays: Mapping[str, np.ndarray]  # by the file's names
    set_aside: tuple[str, ...] = ()  # what a trainer keeps beside the weights: known, not read
    notes: tuple[str, ...] = ()  # for the report


def _no_variants(name: str) -> Sequence[Mapping]:
    return ()


def _no_notes(model, network) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class WeightSource:
    """Whose files: `load_weights`, `convert` and fine-tuning ask it, and know no project by name.

    read: (path, ema) → the file; `ema` takes moving averages in place of the weights.
    network_of: model → what `names` takes; `UserError` where the model is none of the project's.
    names: (network, arrays, ema) → our variable path to the file's name.
    variants: our network's name → switches that a file may need, to be told by its arrays.
    notes: (model, network) → what to say of the model beside these weights.
    has_averages: do its files keep moving averages beside the weights?
    """

    read: Callable[[str, bool], WeightsFile]
    network_of: Callable
    names: Callable[..., dict[str, str]]
    variants: Callable[[str], Sequence[Mapping]] = _no_variants
    notes: Callable[..., tuple[str, ...]] = _no_notes
    has_averages: bool = False
