# SPDX-License-Identifier: Apache-2.0
"""Recipes by name: the YAML files of this folder.  Copy one, edit it and give its path instead of a name."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from inception_tf.config import Config, read_yaml
from inception_tf.errors import UserError, unknown

__all__ = ["list_recipes", "network_of", "notes_of", "read_recipe"]

HERE = Path(__file__).parent


def list_recipes() -> list[str]:
    """Lists the built-in recipes.

    Returns:
        Their names, sorted.
    """
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def read_recipe(name: str) -> Config:
    """Reads a recipe.

    Args:
        name: a built-in recipe, or the path of a YAML file.

    Returns:
        The configuration, with defaults for the keys that the recipe does not set.

    Example:

        config = read_recipe("digits").override(["training.epochs=1"])
    """
    parsed = Config.parse(read_yaml(_path(name)) or {}, f"recipe {name}")
    return dataclasses.replace(parsed, recipe=name)


def network_of(name: str) -> str | None:
    """The network that a recipe is written for.

    Args:
        name: as in `read_recipe`.

    Returns:
        The network's name, or None where the recipe is for any.
    """
    values = read_yaml(_path(name))
    model = values.get("model") if isinstance(values, dict) else None
    return model.get("name") if isinstance(model, dict) else None


def notes_of(name: str) -> str:
    """Reads the comment that a recipe begins with.

    Args:
        name: as in `read_recipe`.

    Returns:
        Its lines, "" where there are none.
    """
    lines = _path(name).read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)


def _path(name: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path():
        if not path.is_file():
            raise UserError(
                f"there is no recipe file {path}; recipes by name: {', '.join(list_recipes())}"
            )
        return path
    if name not in list_recipes():
        raise unknown("recipe", name, list_recipes())
    return HERE / f"{name}.yaml"
