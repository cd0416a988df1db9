# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run from what a user says: a data set, and the few settings that have options of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inception_tf.config import Config, quoted
from inception_tf.errors import UserError

__all__ = ["COMMON_OPTIONS", "default_run_folder", "is_started", "resolve_config"]

# Options of the command for common keys; those of a data source are keys of `data`.
COMMON_OPTIONS = {
    "weights": "model.weights",
    "size": "model.size",
    "batch_size": "data.batch_size",
    "learning_rate": "optimizer.learning_rate",
    "epochs": "training.epochs",
    "precision": "training.precision",
    "seed": "training.seed",
}


def _with_options(settings: Sequence[str], options: dict) -> tuple[str, ...]:
    """The settings of --set, and those that have an option of their own."""
    found = {setting.partition("=")[0].strip(): setting for setting in settings}
    given = {
        COMMON_OPTIONS.get(word, f"data.{word}"): (word, value)
        for word, value in options.items()
        if value is not None
    }
    for key, (word, value) in given.items():
        if key in found:
            option = f"--{word.replace('_', '-')}"
            raise UserError(
                f"{option} {value} and --set {found[key]} both set {key}; remove one of them"
            )
    return (*settings, *(f"{key}={quoted(value)}" for key, (_, value) in given.items()))


def default_run_folder(data: str | None) -> str:
    """Names the run folder of a data set, where none is given.

    Args:
        data: The data set, as `--data` names it.

    Returns:
        `runs/` and the name of the folder, of the data set, or of the file.

    Raises:
        UserError: There is no data set.
    """
    if not data:
        raise UserError("train needs --data, or --out with --resume; see inception-tf train --help")
    kind, _, name = data.rpartition(":")
    path = Path(name).absolute()
    # Of tfrecord:FOLDER/train-*, the folder; of tfds:mnist/3.0.1, the data set.
    name = {
        "tfrecord": path.parent.name,
        "tfds": name.partition("/")[0],
        "csv": path.stem,
    }.get(kind, path.name)
    return f"runs/{name or 'data'}"


def resolve_config(
    model: str | None,
    data: str | None,
    recipe: str | None,
    out: str,
    settings: Sequence[str] = (),
    *,
    resumed: bool = False,
    **options: Any,
) -> Config:
    """Resolves the configuration of a run: the recipe with the options of the command line, or what `out` holds.

    Args:
        model: The network's name; None for the recipe's, or inception_v3.
        data: The data set, as `--data` names it; None with `resumed`.
        recipe: A recipe's name or file; None for `finetune` where weights are given, else `default`.
        out: The run folder.
        settings: Strings `section.key=value`.
        resumed: Continue the run in `out`.
        **options: Values of `COMMON_OPTIONS` and of `SOURCE_OPTIONS`; None for those that are not given.

    Returns:
        The configuration.

    Raises:
        UserError: There is nothing to resume, a setting is given twice, or is not valid.
    """
    from inception_tf.data.sources.open import with_absolute_path
    from inception_tf.run_folder import Run
    from inception_tf.training.recipes import network_of, read_recipe

    settings = _with_options(settings, options)
    recipe = recipe or ("finetune" if options.get("weights") else None)
    if resumed and is_started(out) and not (model or data or recipe):
        return Run(Path(out)).config().override(settings)
    if resumed and not is_started(out) and not (model or data):
        raise UserError(
            f"there is no run in {out} to resume; give --out the run's folder, or start one there with"
            " --model and --data"
        )
    recipe = recipe or "default"
    written_for = network_of(recipe)
    if model and written_for and model != written_for:
        raise UserError(
            f"recipe {recipe} is written for {written_for}, not for {model}; remove --model, or use"
            " another --recipe"
        )
    if not data:
        raise UserError("train needs --data; see inception-tf train --help")
    model = model or written_for or "inception_v3"
    named = [f"model.name={model}", f"data.name={quoted(with_absolute_path(data))}"]
    return read_recipe(recipe).override([*named, *settings])


def is_started(out: str | Path) -> bool:
    """Whether a folder holds a run.

    Args:
        out: The folder.

    Returns:
        True if a training was started there.
    """
    return (Path(out) / "config.yaml").is_file()
