# SPDX-License-Identifier: Apache-2.0
"""Options of several commands, which mean the same in each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import click

from inception_tf.cli.paths import INPUT_LABELS, OUTPUT_FILE
from inception_tf.config import quoted
from inception_tf.data.keras_options import HEADS, SCALE_NAMES, KerasOptions

__all__ = [
    "AS_JSON",
    "COUNT",
    "DATA",
    "JSON_FILE",
    "SETTINGS",
    "SEED",
    "SOURCE_OPTIONS",
    "as_settings",
    "batch_size_option",
    "keras_options",
    "source_options",
    "top_option",
]

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
COUNT = click.IntRange(min=1)
DATA = "digits, tfds:NAME[/VERSION], folder:PATH, csv:FILE or tfrecord:GLOB."

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
JSON_FILE = click.option(
    "--json", "json_file", type=OUTPUT_FILE, metavar="FILE", help="Also write the result as JSON."
)
# How a data source is read, by key of `data` in the configuration.
SOURCE_OPTIONS = {
    "label_offset": click.option(
        "--label-offset",
        type=click.IntRange(min=0),
        help="Subtracted from the labels of tfrecord: data; 1 where class 0 is a background.",
    ),
    "labels": click.option(
        "--labels",
        type=INPUT_LABELS,
        metavar="FILE",
        help="The classes' names in order, one per line or as JSON.  [default: the data's own]",
    ),
    "split_names": click.option(
        "--split-names",
        metavar="train=A,...",
        help="Which folders or files are which split; none: no name is that of a split.",
    ),
    "key": click.option(
        "--key",
        metavar="image=KEY,label=KEY",
        help="Features of tfrecord: data.  [default: slim's image/encoded and image/class/label, or TFDS' image and label]",
    ),
}
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


def source_options(*without: str) -> Option:
    """Makes the options that say how a data source is read.

    Args:
        without: Keys of `SOURCE_OPTIONS` whose options mean something else in the command.

    Returns:
        A decorator of a function that takes them as `reading`: those given, by their key of `data`.
    """
    offered = {key: option for key, option in SOURCE_OPTIONS.items() if key not in without}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_options(*arguments: Any, **options: Any) -> Any:
            reading = {key: options.pop(key) for key in offered}
            given = {key: value for key, value in reading.items() if value is not None}
            return command(*arguments, reading=given, **options)

        for option in reversed(offered.values()):
            option(with_options)
        return with_options

    return decorate


KERAS_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--scale",
        type=click.Choice(tuple(SCALE_NAMES)),
        help="What a Keras model takes: -1 to 1, 0 to 1, keras.applications' torch or caffe, slim's vgg, or 0 to 255.",
    ),
    click.option(
        "--size",
        type=click.IntRange(min=1),
        help="Height and width of the images of a Keras model that takes any.",
    ),
    click.option(
        "--head",
        type=click.Choice(HEADS),
        help="What a Keras model gives, where its last layer does not show it.",
    ),
)


def keras_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say what a Keras model of another project expects and gives.

    Args:
        command: A function that takes them as `keras_model`, a `KerasOptions`.

    Returns:
        The function with the options.
    """

    @functools.wraps(command)
    def with_options(
        *arguments: Any, scale: str | None, size: int | None, head: str | None, **options: Any
    ) -> Any:
        return command(*arguments, keras_model=KerasOptions(scale, size, head), **options)

    for option in reversed(KERAS_OPTIONS):
        option(with_options)
    return with_options


def as_settings(values: Mapping[str, str | int]) -> list[str]:
    """Writes values of the `data` section as `--set` takes them.

    Args:
        values: By key, such as `name`; a string may hold any character.

    Returns:
        Strings `data.key=value`.
    """
    return [f"data.{key}={quoted(value)}" for key, value in values.items()]


def top_option(verb: str = "listed") -> Option:
    """Makes `--top`.

    Args:
        verb: What is done with the classes.

    Returns:
        A decorator.
    """
    words = f"Classes {verb} for each image."
    return click.option("--top", type=COUNT, default=5, show_default=True, help=words)
