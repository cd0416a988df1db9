# SPDX-License-Identifier: Apache-2.0
"""Recipes by name: the YAML files of this folder.  A user copies one, edits it and gives its path instead."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inception_tf.config import Config, read_yaml
from inception_tf.errors import UserError, unknown

__all__ = ["list_recipes", "network_of", "read_recipe"]

HERE = Path(__file__).parent


def list_recipes() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def read_recipe(name: str) -> Config:
    """The recipe of that name, or of a YAML file's path; `UserError` with the nearest name otherwise."""
    parsed = Config.parse(read_yaml(_path(name)) or {}, f"recipe {name}")
    return dataclasses.replace(parsed, recipe=name)


def network_of(name: str) -> str | None:
    """The network that a recipe is written for, where it says so."""
    values = read_yaml(_path(name))
    model = values.get("model") if isinstance(values, dict) else None
    return model.get("name") if isinstance(model, dict) else None


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
