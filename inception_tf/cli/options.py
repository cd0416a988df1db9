# SPDX-License-Identifier: Apache-2.0
"""Options of several commands, which mean the same in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import click

from inception_tf.cli.paths import OUTPUT_FILE

__all__ = [
    "AS_JSON",
    "COUNT",
    "DATA",
    "JSON_FILE",
    "LABEL_OFFSET",
    "SETTINGS",
    "SEED",
    "batch_size_option",
    "top_option",
]

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
COUNT = click.IntRange(min=1)
DATA = "digits, tfds:NAME[/VERSION], folder:PATH or tfrecord:GLOB."

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
JSON_FILE = click.option(
    "--json", "json_file", type=OUTPUT_FILE, metavar="FILE", help="Also write the result as JSON."
)
LABEL_OFFSET = click.option(
    "--label-offset",
    type=click.IntRange(min=0),
    help="Subtracted from the labels of tfrecord: data; 1 where class 0 is a background.",
)
SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one key of the recipe."
)
SEED = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the weights and of the order of the images.",
)


def batch_size_option(what: str) -> Option:
    """Makes `--batch-size` of inference.

    Args:
        what: What a batch is of, as "Images".

    Returns:
        A decorator.
    """
    words = f"{what} that pass through the network together."
    return click.option("--batch-size", type=COUNT, default=32, show_default=True, help=words)


def top_option(verb: str = "listed") -> Option:
    """Makes `--top`.

    Args:
        verb: What is done with the classes.

    Returns:
        A decorator.
    """
    words = f"Classes {verb} for each image."
    return click.option("--top", type=COUNT, default=5, show_default=True, help=words)
