# SPDX-License-Identifier: Apache-2.0
"""The state dict inside a checkpoint of torch's trainers: beside an optimizer, under a prefix, with averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inception_tf.errors import UserError

__all__ = ["StateDict", "find_state_dict"]

# Where trainers put the weights, and their moving averages: torchvision's references, timm, Lightning, Ultralytics.
WEIGHTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
# Of wrappers: DataParallel and AveragedModel, Lightning and others, torch.compile.
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.")
AVERAGED = "n_averaged"  # the step counter of torch's AveragedModel


@dataclass(frozen=True)
class StateDict:
    """The tensors of a checkpoint by parameter name."""

    tensors: Mapping[str, Any]
    skipped: tuple[str, ...]  # names of what else is in the checkpoint
    notes: tuple[str, ...]  # sentences for the report


def find_state_dict(
    content: Any, path: str, is_tensor: Callable[[Any], bool], *, ema: bool
) -> StateDict:
    """Finds the state dict in the content of a checkpoint.

    Args:
        content: What the file holds.
        path: The file, for errors.
        is_tensor: Whether a value is a tensor.
        ema: Take the moving averages of the weights instead of the weights.

    Returns:
        The state dict, with the names of a network that is not wrapped.

    Raises:
        UserError: There is none, or there are no moving averages.
    """
    content = dict(content) if isinstance(content, Mapping) else {}
    inner = {
        key: dict(value)
        for key, value in content.items()
        if isinstance(value, Mapping) and any(map(is_tensor, value.values()))
    }
    raw = next((key for key in WEIGHTS if key in inner), None)
    averages = next((key for key in AVERAGES if key in inner), None)
    if ema and averages is None:
        raise UserError(f"'{path}' has no moving averages; omit ema to read its weights")
    chosen = averages if ema or raw is None else raw
    if chosen is None:
        tensors, skipped = content, []
        if not any(map(is_tensor, content.values())):
            others = ", ".join(sorted(map(str, content))[:5]) or "nothing"
            raise UserError(
                f"'{path}' has no state dict of tensors, but {others}; save model.state_dict() or a dict"
                " with it as 'state_dict'"
            )
    else:
        tensors = inner[chosen]
        skipped = [str(key) for key in content if key != chosen]
    skipped += [AVERAGED] if tensors.pop(AVERAGED, None) is not None else []
    notes = []
    if chosen == averages and chosen is not None:
        notes.append(f"read the moving averages ('{chosen}'), not the raw weights")
    elif averages is not None:
        notes.append(f"read the raw weights, not the moving averages ('{averages}'; ema)")
    tensors, prefix = _unwrapped(tensors)
    if prefix:
        notes.append(f"names read without '{prefix}' before them")
    return StateDict(tensors, tuple(skipped), tuple(notes))


def _unwrapped(tensors: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The tensors without the prefix that all of their names have, and that prefix."""
    whole = ""
    while tensors:
        found = [p for p in PREFIXES if all(str(name).startswith(p) for name in tensors)]
        if not found:
            break
        tensors = {str(name).removeprefix(found[0]): value for name, value in tensors.items()}
        whole += found[0]
    return tensors, whole
