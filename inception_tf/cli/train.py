# SPDX-License-Identifier: Apache-2.0
"""`inception-tf train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inception_tf.cli.options import DATA, SETTINGS, quoted, source_options
from inception_tf.cli.paths import OUTPUT_FOLDER

if TYPE_CHECKING:
    from inception_tf.config import Config

__all__ = ["command", "default_run_folder", "resolve_config"]


@click.command("train")
@click.option(
    "--model",
    help="The network's name; `inception-tf models` lists them.  [default: the recipe's, or inception_v3]",
)
@click.option("--data", help=DATA)
@source_options()
@click.option(
    "--weights",
    metavar="NAME|FILE",
    help="Weights to start from: a release, such as imagenet, or a file.",
)
@click.option(
    "--recipe",
    help="A recipe's name or a YAML file; `inception-tf recipes` lists them.  [default: finetune with --weights,"
    " else default]",
)
@click.option(
    "--out",
    type=OUTPUT_FOLDER,
    help="The run folder to write.  [default: runs/ and the data's name]",
)
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch-size", type=int, help="Images per step.")
@click.option("--learning-rate", type=float, help="The highest, after the warm-up.")
@click.option("--size", type=int, metavar="PIXELS", help="Height and width of the images.")
@click.option("--seed", type=int, help="Of the weights and of the order of the images.")
@SETTINGS
@click.option(
    "--precision",
    type=click.Choice(("auto", "float32", "mixed_float16", "mixed_bfloat16")),
    help="Precision of the computation; auto selects the machine's fastest and says why.",
)
@click.option(
    "--recalibrate-bn",
    type=click.IntRange(min=1),
    metavar="N",
    help="Recompute the moving statistics of the result over N batches; with --resume, of a finished run.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print configuration, size, memory and steps, without training."
)
@click.option(
    "--resume", "resumed", is_flag=True, help="Resume from the newest checkpoint in --out."
)
def command(model, data, reading, recipe, out, settings, recalibrate_bn, dry_run, resumed, **words):
    """Train a network into a run folder.

    Ctrl-C stops after the step and saves; --resume continues from there.

    \b
    inception-tf train --data folder:photos --weights imagenet --epochs 10
    inception-tf train --model inception_v1 --data digits --recipe digits --out runs/digits
    inception-tf train --out runs/digits --resume
    """
    out = out or default_run_folder(data)
    words |= reading
    config = resolve_config(model, data, recipe, out, settings, resumed=resumed, **words)
    if recalibrate_bn:
        config = config.override([f"training.recalibrate_batch_norm={recalibrate_bn}"])
    if dry_run:
        click.echo(_dry_run(config))
        return
    from inception_tf.data.preprocessing import Preprocessing
    from inception_tf.host.devices import missing_gpu_hint
    from inception_tf.training.callbacks import ProgressBar, Stopped
    from inception_tf.training.distribute import read_cluster
    from inception_tf.training.train import train

    hint = missing_gpu_hint()
    if hint:
        click.echo(f"inception-tf: {hint}", err=True)
    cluster = read_cluster()
    is_chief = cluster is None or cluster.index == 0
    bar = ProgressBar(config.training.epochs, config.data.batch_size)
    try:
        report = train(
            config, out, resumed=resumed and _started(out), callbacks=[bar] if is_chief else []
        )
    except Stopped as stop:
        raise KeyboardInterrupt(
            f"stopped at step {stop.step}, saved; resume with: inception-tf train --out {out} --resume"
        ) from None
    finally:
        bar.close()
    if not is_chief:
        return
    last, best = report["last"], report["best"]
    click.echo(
        f"{report['model']} on {report['data']}: top-1 {last['val_top1']:.2%}, top-5 {last['val_top5']:.2%}"
        f" after {report['epochs']} epochs in {report['seconds']:.0f} s ({report['precision']}:"
        f" {report['precision_reason']}); best top-1 {best['val_top1']:.2%} in epoch {best['epoch']}"
    )
    if config.model.weights:
        click.echo(f"images of the evaluation: {Preprocessing(**report['preprocessing'])}")
    click.echo(f"evaluate it: inception-tf evaluate {out} --data {config.data.name}")
    click.echo(f"serve it:    inception-tf export {out} --to saved_models/{Path(out).name}")


# The options of the command for keys that everybody sets; those of a data source are keys of `data`.
WORDS = {
    "weights": "model.weights",
    "size": "model.size",
    "batch_size": "data.batch_size",
    "learning_rate": "optimizer.learning_rate",
    "epochs": "training.epochs",
    "precision": "training.precision",
    "seed": "training.seed",
}


def _with_words(settings: Sequence[str], words: dict) -> tuple[str, ...]:
    """The settings of --set, and those that have a word of their own."""
    from inception_tf.errors import UserError

    found = {setting.partition("=")[0].strip(): setting for setting in settings}
    given = {
        WORDS.get(word, f"data.{word}"): (word, value)
        for word, value in words.items()
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
    """The run folder of a data set, where none is named."""
    from inception_tf.errors import UserError

    if not data:
        raise UserError("train needs --data, or --out with --resume; see inception-tf train --help")
    kind, _, name = data.rpartition(":")
    path = Path(name).absolute()
    # Of tfrecord:FOLDER/train-*, the folder; of tfds:mnist/3.0.1, the data set.
    name = {"tfrecord": path.parent.name, "tfds": name.partition("/")[0]}.get(kind, path.name)
    return f"runs/{name or 'data'}"


def resolve_config(
    model: str | None,
    data: str | None,
    recipe: str | None,
    out: str,
    settings: Sequence[str] = (),
    *,
    resumed: bool = False,
    **words: Any,
) -> Config:
    """Resolves the configuration of a run: the recipe with the options of the command line, or what `out` holds.

    Args:
        model: The network's name; None for the recipe's, or inception_v3.
        data: The data set, as `--data` names it; None with `resumed`.
        recipe: A recipe's name or file; None for `finetune` where weights are given, else `default`.
        out: The run folder.
        settings: Strings `section.key=value`.
        resumed: Continue the run in `out`.
        **words: Values of `WORDS` and of `SOURCE_OPTIONS`; None for those that are not given.

    Returns:
        The configuration.

    Raises:
        UserError: There is nothing to resume, a setting is given twice, or is not valid.
    """
    from inception_tf.data.sources.open import with_absolute_path
    from inception_tf.errors import UserError
    from inception_tf.run_folder import Run
    from inception_tf.training.recipes import network_of, read_recipe

    settings = _with_words(settings, words)
    recipe = recipe or ("finetune" if words.get("weights") else None)
    if resumed and _started(out) and not (model or data or recipe):
        return Run(Path(out)).config().override(settings)
    if resumed and not _started(out) and not (model or data):
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


def _dry_run(config: Config) -> str:
    """The resolved configuration as YAML, then the cost of the run."""
    import yaml

    from inception_tf.training.estimate import estimate
    from inception_tf.training.plan import make_plan

    plan = make_plan(config)
    cost = estimate(plan)
    memory = {use: f"{size / 2**20:,.0f} MiB" for use, size in cost["memory"].items()}
    total = sum(cost["memory"].values()) / 2**20
    return (
        f"{yaml.safe_dump(config.as_dict(), sort_keys=False)}\n"
        f"{config.model.name} at {plan.size}x{plan.size}: {cost['parameters']:,} parameters,"
        f" {cost['trainable']:,} of them trained\n"
        f"{plan.precision.policy}: {plan.precision.reason}\n"
        f"{cost['images']:,} images, {plan.classes} classes: {cost['steps_per_epoch']:,} steps per"
        f" epoch, {cost['steps']:,} in total\n"
        f"memory: about {total:,.0f} MiB ({', '.join(f'{use} {size}' for use, size in memory.items())})"
        " and the framework's own"
    )


def _started(out: str) -> bool:
    return (Path(out) / "config.yaml").is_file()
