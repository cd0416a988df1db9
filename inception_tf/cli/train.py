# SPDX-License-Identifier: Apache-2.0
"""`inception-tf train`."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["command"]


@click.command("train")
@click.option("--model", help="A network's name; `inception-tf models` lists them.")
@click.option("--data", help="digits, or folder:PATH with one folder a class.")
@click.option("--recipe", help="A recipe's name or a YAML file.  [default: default]")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="The run folder to write."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one key of the recipe."
)
@click.option(
    "--resume", "resumed", is_flag=True, help="Go on from the newest checkpoint in --out."
)
def command(model, data, recipe, out, settings, resumed):
    """Train a network into a run folder.

    Ctrl-C stops after the step and saves; --resume goes on from there.

    \b
    inception-tf train --model inception_v1 --data digits --recipe digits --out runs/digits
    inception-tf train --out runs/digits --resume
    """
    config = _config(model, data, recipe, out, settings, resumed)
    from inception_tf.training.callbacks import Bar, Stopped
    from inception_tf.training.fit import train

    bar = Bar(config.training.epochs, config.data.batch_size)
    try:
        report = train(config, out, resumed=resumed and _started(out), callbacks=[bar])
    except Stopped as stop:
        raise KeyboardInterrupt(
            f"stopped at step {stop.step}, saved; go on with: inception-tf train --out {out} --resume"
        ) from None
    finally:
        bar.close()
    last, best = report["last"], report["best"]
    click.echo(
        f"{report['model']} on {report['data']}: top-1 {last['val_top1']:.2%}, top-5 {last['val_top5']:.2%}"
        f" after {report['epochs']} epochs in {report['seconds']:.0f} s ({report['precision']}:"
        f" {report['precision_reason']}); best top-1 {best['val_top1']:.2%} in epoch {best['epoch']}"
    )
    click.echo(f"evaluate it: inception-tf evaluate {out} --data {config.data.name}")
    click.echo(f"serve it:    inception-tf export {out} --to saved_models/{Path(out).name}")


def _config(model, data, recipe, out, settings, resumed):
    """The run's configuration: the recipe with the command line's words over it, or the one that `out` holds."""
    from inception_tf.errors import UserError
    from inception_tf.training.recipes import read_recipe
    from inception_tf.training.run import Run

    if resumed and _started(out) and not (model or data or recipe or settings):
        return Run(Path(out)).config()
    for option, value in (("--model", model), ("--data", data)):
        if not value:
            raise UserError(f"train needs {option}; see inception-tf train --help")
    if data.startswith("folder:"):
        data = "folder:" + os.path.abspath(os.path.expanduser(data.removeprefix("folder:")))
    words = [f"model.name={model}", f"data.name='{data.replace(chr(39), chr(39) * 2)}'"]
    return read_recipe(recipe or "default").override([*words, *settings])


def _started(out: str) -> bool:
    return (Path(out) / "config.yaml").is_file()
