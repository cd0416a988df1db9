# SPDX-License-Identifier: Apache-2.0
"""The values of settings: read from YAML, typed and frozen."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, NoReturn

import yaml

from inception_tf.errors import UserError
from inception_tf.host.files import read_text

__all__ = ["FrozenDict", "parse_yaml", "quoted", "read_yaml", "typed_value"]


class FrozenDict(dict):
    """A dict that cannot be changed.

    Example:

        FrozenDict({"lrn": True})
    """

    def _refuse(self, *arguments: object, **options: object) -> NoReturn:
        raise TypeError("a configuration cannot be changed; make a new one with Config.override")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # dict says None, because it can be changed
        return hash(frozenset(self.items()))


def quoted(value: str | float) -> str:
    """Writes a value as YAML reads it back.

    Args:
        value: A number, or a string of any characters.

    Returns:
        The number, or the string in quotes.
    """
    return "'{}'".format(value.replace("'", "''")) if isinstance(value, str) else str(value)


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file.

    Args:
        path: the file, in UTF-8.

    Returns:
        Its content as plain values; None where it is empty.

    Raises:
        UserError: it cannot be read, or is not YAML.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parses YAML.

    Args:
        text: the YAML.
        where: the file or option it comes from, for the errors.

    Returns:
        Its content as plain values; None where it is empty.

    Raises:
        UserError: it is not YAML, or nested too deeply.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        problem = getattr(error, "problem", None) or "unreadable"
        raise UserError(f"{where} is not YAML: {problem} in line {line}") from error
    except RecursionError as error:
        raise UserError(f"{where} is no configuration: lists in lists, too deep") from error


def typed_value(value: Any, hint: Any, key: str) -> Any:
    """Converts a value to a setting's type, where the conversion loses nothing.

    Args:
        value: a plain value, as YAML gives it.
        hint: the type, or the types that are allowed.
        key: `section.key`, for the errors.

    Returns:
        The value; a dict frozen, two numbers as a tuple.

    Raises:
        UserError: the value is of another type.
    """
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    for kind in allowed:
        if typing.get_origin(kind) is tuple and isinstance(value, list | tuple) and len(value) == 2:
            return tuple(typed_value(item, float, key) for item in value)
        if kind is float and not isinstance(value, bool):
            # YAML 1.1 reads 1e-3 as text.
            try:
                return float(value)
            except (TypeError, ValueError):
                continue
        if (
            isinstance(kind, type)
            and isinstance(value, kind)
            and not (kind is int and isinstance(value, bool))
        ):
            return FrozenDict(value) if isinstance(value, dict) else value
    raise UserError(f"{key} must be {_describe(hint)}, got {value!r}")


def _describe(hint: Any) -> str:
    words = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        dict: "a mapping such as {lrn: true}",
        str: "a string",
        type(None): "null",
    }
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return " or ".join(words.get(kind, "two numbers [low, high]") for kind in allowed)
