# SPDX-License-Identifier: Apache-2.0
"""Recipes by name: the YAML files of this folder.  A user copies one, edits it and gives its path instead."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inception_tf.config import Config, read_yaml
from inception_tf.errors import UserError, unknown

__all__ = ["list_recipes", "read_recipe"]

HERE = Path(__file__).parent


def list_recipes() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def read_recipe(name: str) -> Config:
    """The recipe of that name, or of a YAML file's path; `UserError` with the nearest name otherwise."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path():
        if not path.is_file():
            raise UserError(
                f"there is no recipe file {path}; recipes by name: {', '.join(list_recipes())}"
            )
    elif name in list_recipes():
        path = HERE / f"{name}.yaml"
    else:
        raise unknown("recipe", name, list_recipes())
    return dataclasses.replace(Config.parse(read_yaml(path) or {}, f"recipe {name}"), recipe=name)
