# SPDX-License-Identifier: Apache-2.0
"""`inception-tf train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inception_tf.cli.options import DATA, SETTINGS, source_options
from inception_tf.cli.output import echo
from inception_tf.cli.paths import DATA_NAME, OUTPUT_FOLDER, WEIGHTS_NAME

if TYPE_CHECKING:
    from inception_tf.config import Config

__all__ = ["command"]

TRIVIAL = 5  # classes


@click.command("train")
@click.option(
    "--model",
    help="The network's name; `inception-tf models` lists them.  [default: the recipe's, or inception_v3]",
)
@click.option("--data", type=DATA_NAME, help=DATA)
@source_options()
@click.option(
    "--weights",
    type=WEIGHTS_NAME,
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
    from inception_tf.training.configure import default_run_folder, is_started, resolve_config

    out = out or default_run_folder(data)
    words |= reading
    config = resolve_config(model, data, recipe, out, settings, resumed=resumed, **words)
    if not (resumed and is_started(out)):
        _check_names(config)
    if recalibrate_bn:
        config = config.override([f"training.recalibrate_batch_norm={recalibrate_bn}"])
    if dry_run:
        echo(_dry_run(config))
        return
    from inception_tf.data.preprocessing import Preprocessing
    from inception_tf.host.devices import missing_gpu_hint
    from inception_tf.training.callbacks import ProgressBar, Stopped
    from inception_tf.training.distribute import read_cluster
    from inception_tf.training.train import train

    hint = missing_gpu_hint()
    if hint:
        echo(f"inception-tf: {hint}", err=True)
    cluster = read_cluster()
    is_chief = cluster is None or cluster.index == 0
    bar = ProgressBar(config.training.epochs, config.data.batch_size)
    try:
        report = train(
            config, out, resumed=resumed and is_started(out), callbacks=[bar] if is_chief else []
        )
    except Stopped as stop:
        raise KeyboardInterrupt(
            f"stopped at step {stop.step}, saved; resume with: inception-tf train --out {out} --resume"
        ) from None
    finally:
        bar.close()
    if not is_chief:
        return
    echo(_outcome(report))
    if config.model.weights:
        echo(f"images of the evaluation: {Preprocessing(**report['preprocessing'])}")
    echo(f"evaluate it: inception-tf evaluate {out} --data {config.data.name}")
    echo(f"serve it:    inception-tf export {out} --to saved_models/{Path(out).name}")


def _check_names(config: Config) -> None:
    """Refuses data and weights that are not there, wherever they are named, before TensorFlow is imported."""
    from inception_tf.data.sources.names import check_source_name
    from inception_tf.weights.registry import check_release_name

    check_source_name(config.data.name)
    if config.model.weights:
        check_release_name(config.model.name, config.model.weights)
        WEIGHTS_NAME.convert(config.model.weights, None, None)


def _outcome(report: dict) -> str:
    """The scores of the result and of the best epoch, as a sentence."""
    result, best = report["result"], report["best"]
    if "val_map" in result:
        name, key = "mean average precision", "val_map"
        scores = f"{name} {result[key]:.2%}"
    else:
        name, key = "top-1", "val_top1"
        # Of five classes or fewer every answer is among the best five.
        top5 = f", top-5 {result['val_top5']:.2%}" if report["classes"] > TRIVIAL else ""
        scores = f"{name} {result[key]:.2%}{top5}"
    kept = f"of epoch {result['epoch']}" if report["keep"] == "best" else "of the last epoch"
    return (
        f"{report['model']} on {report['data']}: {scores} with the weights {kept}, after"
        f" {report['epochs']} epochs in {report['seconds']:.0f} s ({report['precision']}:"
        f" {report['precision_reason']}); best {name} {best[key]:.2%} in epoch {best['epoch']}"
    )


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
