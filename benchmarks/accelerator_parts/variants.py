# SPDX-License-Identifier: Apache-2.0
"""`accelerator.py variants`: Figures 2 and 3 of the batch normalization paper on a GPU, in minutes, by Keras on JAX.

The variants, their recipes and learning rates are those of `inception-tf experiment bn-variants`, at its default
size, width and number of steps.  Images stay in GPU memory; crops, flips and colors are computed there, and a few
hundred steps are one call, so that no step waits for Python.  Variants of one network share a compiled program.

Departures from the experiment: the crops are drawn by JAX; the moving statistics are not warmed up, which with their
momentum of 0.95 affects the first hundred steps alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from accelerator_parts.processes import about
from accelerator_parts.variant_training import (
    Network,
    build,
    evaluate,
    first_state,
    same_network,
    train_chunk,
)

if TYPE_CHECKING:
    from inception_tf.config import Config

RECORD = "variants.json"
FIGURE = "variants.png"
PAGE = "variants.md"
# What the paper compares first; those that fail come last.
ORDER = (
    *("bn-x5", "inception", "bn-x5-sigmoid", "bn-x30", "bn-baseline"),
    *("inception-x5", "inception-sigmoid"),
)
VALIDATION_BATCH = 500
TRAIN_DATA, VALIDATION_DATA = ("images", "labels"), ("validation_images", "validation_labels")


# ---- the data ----


def save_data(source: str, path: Path) -> None:
    """Writes a data set as one `.npz`, for a machine without TensorFlow.

    Args:
        source: A data set's name, of images that have one size.
        path: The file; gets `images` (N, H, W, 3) uint8, `labels` (N,), `validation_images` and `validation_labels`.
    """
    import tensorflow as tf

    from inception_tf.data.decoding.images import decode
    from inception_tf.data.loading import encoded_reader
    from inception_tf.data.sources.open import open_source

    opened = open_source(source)
    arrays = {}
    for split, names in ((opened.split("train"), TRAIN_DATA), (opened.split(), VALIDATION_DATA)):
        read = encoded_reader(split)
        images = tf.data.Dataset.range(len(split)).map(lambda index, read=read: decode(read(index)))
        stacked = np.stack(list(images.as_numpy_iterator()))
        arrays |= dict(zip(names, (stacked, np.asarray(split.classes)), strict=True))
    np.savez_compressed(path, **arrays)


# ---- the experiment ----


@dataclasses.dataclass(frozen=True)
class Task:
    """One training."""

    variant: str
    seed: int
    config: Config
    network: str  # the key of its program


class Experiment:
    """All trainings of one call."""

    def __init__(self, arrays: dict, settings: dict, out: Path, ends: float):
        import jax
        import jax.numpy as jnp

        self.settings, self.out, self.ends = settings, out, ends
        self.images = jnp.array(arrays[TRAIN_DATA[0]])
        self.labels = jnp.array(arrays[TRAIN_DATA[1]].astype("int32"))
        images, labels = (arrays[name] for name in VALIDATION_DATA)
        count = min(len(images), settings["validation_images"])
        batch = math.gcd(count, VALIDATION_BATCH)
        images, labels = images[:count], labels[:count].astype("int32")
        self.validation = (
            jnp.array(images.reshape(-1, batch, *images.shape[1:])),
            jnp.array(labels.reshape(-1, batch)),
        )
        self.classes = int(arrays[TRAIN_DATA[1]].max()) + 1
        self.building = threading.Lock()  # Keras' state, names and seeds among them, is global
        self.key = jax.random.key(settings["seed"])
        self.networks: dict[str, Future] = {}

    def tasks(self) -> list[Task]:
        """All trainings, the first seed's first."""
        from inception_tf.experiments.bn_variants import VARIANTS, variant_config
        from inception_tf.experiments.short_runs import RunSettings

        known = {variant.name: variant for variant in VARIANTS}
        chosen = [name for name in ORDER if name in (self.settings["only"] or ORDER)]
        steps = len(self.labels) // 32
        epochs = math.ceil(self.settings["steps"] / steps)
        result = []
        for seed in range(self.settings["seed"], self.settings["seed"] + self.settings["seeds"]):
            setting = RunSettings(
                "digits",
                self.settings["steps"],
                self.settings["size"],
                self.settings["width"],
                self.settings["rate_factor"],
                self.settings["every"],
                self.settings["validation_images"],
                seed,
            )
            for name in chosen:
                config = variant_config(known[name], setting, epochs)
                config = config.override(["training.warm_up_statistics=false"])
                shared = same_network(config.override(["training.seed=0"]))
                result.append(Task(name, seed, config, shared))
        return result

    def compiled(self, task: Task) -> Network:
        """The task's network with its programs; threads may call it side by side."""
        import jax

        with self.building:
            network = build(task.config, self.classes)
            state = first_state(network, None, 0)
            steps, batch = self.settings["every"], task.config.data.batch_size
            order = jax.ShapeDtypeStruct((steps, batch), "int32")
            rates = jax.ShapeDtypeStruct((steps,), "float32")
            chunk = jax.jit(partial(train_chunk, network), donate_argnums=0).lower(
                state, self.key, self.images, self.labels, order, rates
            )
            evaluation = jax.jit(partial(evaluate, network)).lower(state, *self.validation)
        started = time.perf_counter()
        network.chunk, network.evaluate = chunk.compile(), evaluation.compile()
        print(f"{task.variant}: compiled in {time.perf_counter() - started:.1f} s", flush=True)
        return network

    def run(self, record: dict) -> None:
        """Trains whatever `record` does not hold yet, as long as there is time, and saves after each."""
        tasks = [t for t in self.tasks() if f"{t.variant}/{t.seed}" not in record["runs"]]
        # One after another: each is compiled sooner, while the one before trains.
        with ThreadPoolExecutor(1) as pool:
            for task in tasks:
                if task.network not in self.networks:
                    self.networks[task.network] = pool.submit(self.compiled, task)
            for task in tasks:
                if time.monotonic() >= self.ends:
                    break
                found = self.train(task, self.networks[task.network].result())
                if found:
                    record["runs"][f"{task.variant}/{task.seed}"] = found
                    save(record, self.out)
            pool.shutdown(cancel_futures=True)

    def train(self, task: Task, network: Network) -> dict | None:
        """One training from its first step; None where the time ended before it did."""
        import jax
        import keras

        from inception_tf.training.optim.optimizers import make_schedule

        every, batch = self.settings["every"], task.config.data.batch_size
        per_epoch = len(self.labels) // batch
        steps = self.settings["steps"]
        with self.building:
            keras.utils.set_random_seed(task.seed)
            network_of_seed = build(task.config, self.classes)
            state = first_state(network_of_seed, self.settings["initial_deviation"], task.seed)
        schedule = make_schedule(
            task.config.optimizer, steps_per_epoch=per_epoch, epochs=task.config.training.epochs
        )
        random = np.random.default_rng(task.seed)
        orders = [
            random.permutation(len(self.labels))[: per_epoch * batch]
            for _ in range(task.config.training.epochs)
        ]
        order = np.concatenate(orders).astype("int32").reshape(-1, batch)[:steps]
        rates = np.asarray(jax.vmap(schedule)(np.arange(steps, dtype="float32")), "float32")
        rows, diverged = [], None
        key = jax.random.fold_in(self.key, task.seed)
        started = time.perf_counter()
        for begin in range(0, steps, every):
            if time.monotonic() > self.ends:
                print(f"{task.variant}, seed {task.seed}: no time after step {begin:,}", flush=True)
                return None
            part = slice(begin, begin + every)
            state, losses, ended = network.chunk(
                state,
                jax.random.fold_in(key, begin),
                self.images,
                self.labels,
                order[part],
                rates[part],
            )
            accuracy, loss = map(float, network.evaluate(state, *self.validation))
            rows.append(
                {
                    "step": begin + every,
                    "val_top1": accuracy,
                    "val_loss": loss,
                    "learning_rate": float(rates[begin + every - 1]),
                    "train_loss": float(losses[-50:].mean()),
                }
            )
            print(
                f"{task.variant}, seed {task.seed}: step {begin + every:,}, top-1 {accuracy:.2%}, after"
                f" {time.perf_counter() - started:.1f} s",
                flush=True,
            )
            if bool(ended[-1]):
                diverged = begin + 1 + int(np.argmax(np.asarray(ended)))
                break
        seconds = time.perf_counter() - started
        best = max(row["val_top1"] for row in rows)
        print(
            f"{task.variant}, seed {task.seed}: {rows[-1]['step']:,} steps in {seconds:.1f} s, best {best:.2%},"
            f" last {rows[-1]['val_top1']:.2%}"
            + (f", diverged at {diverged:,}" if diverged else ""),
            flush=True,
        )
        return {
            "variant": task.variant,
            "seed": task.seed,
            "learning_rate": task.config.optimizer.learning_rate,
            "points": rows,
            "diverged_at": diverged,
            "seconds": seconds,
        }


# ---- the page ----


def curves_of(record: dict, seed: int) -> list:
    """The curves of one seed, in the experiment's order."""
    from inception_tf.experiments.bn_variants import VARIANTS
    from inception_tf.experiments.variant_outcomes import Curve

    found = [record["runs"].get(f"{variant.name}/{seed}") for variant in VARIANTS]
    return [
        Curve(run["variant"], run["learning_rate"], tuple(run["points"]), run)
        for run in found
        if run
    ]


def page(record: dict) -> str:
    """The table of all variants: each seed's best accuracy, and the first seed's steps beside the paper's."""
    from inception_tf.cli.render import markdown
    from inception_tf.experiments.variant_outcomes import figure3_rows

    seeds = sorted({run["seed"] for run in record["runs"].values()})
    rows = []
    for row in figure3_rows(curves_of(record, seeds[0]), record["chance_bound"]) if seeds else []:
        same = [run for run in record["runs"].values() if run["variant"] == row["variant"]]
        best = [max(point["val_top1"] for point in run["points"]) for run in same]
        spread = f" ± {100 * statistics.stdev(best):.1f} ({len(best)})" if len(best) > 1 else ""
        fewer, paper = row["times_fewer_steps"], row["paper_best_accuracy"]
        rows.append(
            (
                f"`{row['variant']}`",
                f"{row['learning_rate']:g}",
                f"{100 * statistics.mean(best):.1f} %{spread}",
                f"{row['last_accuracy']:.1%}",
                f"{row['steps_to_baseline_best'] or '–'}",
                f"{fewer:.1f}" if fewer else "–",
                row["outcome"],
                row["paper_says"] or f"{paper:.1%}",
                f"{statistics.median(run['seconds'] for run in same):.0f}",
            )
        )
    heads = (
        *("variant", "learning rate", "best top-1", "last", "steps to the baseline's best"),
        *("times fewer", "outcome", "paper", "s"),
    )
    lines = ["# BN variants", "", f"    {record['command']}", "", record["about"], ""]
    return "\n".join([*lines, markdown(heads, rows), ""])


def save(record: dict, out: Path) -> None:
    """Writes record, page and figure, each completely or not at all."""
    from inception_tf.experiments.variant_figure import draw_figure2
    from inception_tf.host.atomic_io import atomic_write_text

    atomic_write_text(out / RECORD, json.dumps(record, indent=1) + "\n")
    atomic_write_text(out / PAGE, page(record))
    seeds = sorted({run["seed"] for run in record["runs"].values()})
    if seeds:
        title = f"{record['device']}, seed {seeds[0]}: {record['title']}"
        curves = curves_of(record, seeds[0])
        draw_figure2(curves, out / FIGURE, chance=record["chance_bound"], title=title)


TINY = {"steps": 6, "size": 33, "width": 0.125, "every": 3, "validation_images": 40}
EPILOG = "Another call with the same --out trains what the first had no time for."


@click.command("variants", epilog=EPILOG)
@click.option("--data", type=click.Path(dir_okay=False), help="What --write-data wrote.")
@click.option(
    "--out", type=click.Path(file_okay=False), help="A folder for record, page and figure."
)
@click.option("--write-data", nargs=2, metavar="DATA FILE.npz", help="Write a data set and stop.")
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--steps", default=15_000, show_default=True)
@click.option("--every", default=500, show_default=True, help="Steps between two measurements.")
@click.option("--rate-factor", default=1.5, show_default=True, help="As of the experiment.")
@click.option(
    "--initial-deviation", type=float, help="Of Gaussian kernels, in place of the network's."
)
@click.option("--seed", default=0, show_default=True, help="The first of --seeds.")
@click.option("--seeds", default=1, show_default=True)
@click.option("--only", type=click.Choice(ORDER), multiple=True)
@click.option("--tiny", is_flag=True, help="A small network, few steps: a rehearsal.")
def command(data, out, write_data, minutes, tiny, **chosen):
    """Trains the variants of the batch normalization paper on this machine's accelerator."""
    began = time.monotonic()
    if write_data:
        save_data(write_data[0], Path(write_data[1]))
        return
    if not (data and out):
        raise click.UsageError("needs --data FILE.npz and --out FOLDER")
    if chosen["steps"] % chosen["every"]:
        raise click.UsageError("--steps must be a multiple of --every")
    # Keras reads its backend when it is imported, which is below.
    os.environ["KERAS_BACKEND"] = "jax"
    from inception_tf.experiments.bn_variants import FULL
    from inception_tf.experiments.variant_outcomes import chance_bound

    settings = {**FULL, **chosen, **(TINY if tiny else {})}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(data) as file:
        arrays = dict(file)
    device, versions = about()
    kept = {k: v for k, v in settings.items() if k not in ("only", "seeds")}
    labels = arrays[VALIDATION_DATA[1]][: settings["validation_images"]]
    record = {
        "device": device,
        "about": versions,
        "command": "python benchmarks/accelerator.py variants",
        "settings": kept,
        "chance_bound": chance_bound(np.bincount(labels).tolist()),
        "title": f"{len(arrays[TRAIN_DATA[0]]):,} images, {settings['size']} pixels, width {settings['width']:g},"
        f" learning rates x {settings['rate_factor']:g}",
        "runs": {},
    }
    if (folder / RECORD).is_file():
        before = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if before["settings"] != kept:
            raise click.UsageError(f"{folder} has variants of other settings; use another --out")
        record["runs"] = before["runs"]
    Experiment(arrays, settings, folder, began + 60 * minutes).run(record)
    save(record, folder)
    print(page(record), flush=True)
