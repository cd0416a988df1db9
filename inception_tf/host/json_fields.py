# SPDX-License-Identifier: Apache-2.0
"""Dataclasses from JSON that anyone may have changed: every field has the type that it is declared with."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["from_json"]

Made = TypeVar("Made")


def from_json(made: type[Made], values: Any, name: str = "it") -> Made:
    """Builds a dataclass from an object of JSON.

    Args:
        made: A dataclass of numbers, strings, lists as tuples, objects as mappings, and dataclasses of these.
        values: What `json.loads` returned.
        name: What the object is called in the error.

    Returns:
        The dataclass; a field that has a default may be absent.

    Raises:
        TypeError: It is no object, or a field is missing, not known or of another type; one sentence.

    Example:
        from_json(Preprocessing, {"size": 224, "crop": None})
    """
    if not isinstance(values, dict):
        raise TypeError(f"{name} is no object")
    fields = {field.name: field for field in dataclasses.fields(made)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - fields.keys())
    if unknown:
        raise TypeError(f"{name} has {unknown[0]!r}, which is not known")
    hints = typing.get_type_hints(made)
    found = {}
    for key, field in fields.items():
        if key in values:
            found[key] = _typed(hints[key], values[key], key)
        elif field.default is dataclasses.MISSING:
            raise TypeError(f"{name} has no {key!r}")
    return made(**found)


def _typed(hint: Any, value: Any, name: str) -> Any:
    """A value of JSON as one of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in inner:
            return None
        # Each union is of one type and None.
        (hint,) = (one for one in inner if one is not type(None))
        return _typed(hint, value, name)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, name)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(inner[0], one, f"{name}[{i}]") for i, one in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _typed(inner[1], one, f"{name}.{key}") for key, one in value.items()}
    if hint is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if type(value) is hint and (hint is not float or math.isfinite(value)):
        return value
    raise TypeError(f"{name} is {value!r:.80}, of another type")
