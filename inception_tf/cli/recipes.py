# SPDX-License-Identifier: Apache-2.0
"""`inception-tf recipes`."""

from __future__ import annotations

import json

import click

from inception_tf.cli.options import AS_JSON
from inception_tf.cli.output import echo

__all__ = ["command"]


@click.command("recipes")
@click.argument("recipe", required=False, metavar="[NAME|FILE.yaml]")
@AS_JSON
def command(recipe, as_json):
    """List the recipes; or of one, every key with its value, unit and meaning.

    A key is changed by `--set KEY=VALUE` of train, or in a copy of the file.

    \b
    inception-tf recipes
    inception-tf recipes finetune
    """
    from inception_tf.cli.render import table
    from inception_tf.training.recipes import list_recipes, notes_of

    if recipe is None:
        notes = {name: notes_of(name) for name in list_recipes()}
        if as_json:
            echo(json.dumps(notes, indent=2))
        else:
            echo(table(("recipe", "what"), [(n, _first(text)) for n, text in notes.items()]))
        return
    rows = _rows(recipe)
    if as_json:
        echo(json.dumps({key: row for key, *row in rows}, indent=2))
        return
    header = ("key", "value", "unit", "meaning")
    shown = [(key, _yaml(value), unit, meaning) for key, value, unit, meaning in rows]
    echo(f"{notes_of(recipe)}\n\n{table(header, shown)}")


def _rows(recipe: str) -> list[tuple]:
    """(key, value, unit, meaning) of every setting."""
    from inception_tf.config import MEANING, UNIT, Config
    from inception_tf.training.recipes import read_recipe

    values = read_recipe(recipe).flat()
    return [
        (name, values[name], key.metadata[UNIT], key.metadata[MEANING])
        for name, key in Config.settings().items()
    ]


def _first(notes: str) -> str:
    """The first sentence."""
    return " ".join(notes.split()).partition(". ")[0].rstrip(".")


def _yaml(value: object) -> str:
    """As it is written after `--set KEY=`."""
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]
