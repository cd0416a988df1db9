# SPDX-License-Identifier: Apache-2.0
"""What `train` is worth: its training step of Inception V3 against keras.applications', and how much of `fit` is step.

Both networks train on one batch that is in memory: this project's as `train` compiles and calls it,
at the machine's precision and with `train`'s own callbacks, and keras.applications.InceptionV3 as its
users compile and fit it, in float32.  Each measurement has a process of its own, and the two take
turns.  The clock includes a step from the start of its call to its loss in Python; tracing and the
first two steps are not counted.  The share is the time inside the steps over the time from the first
of them to the end of the last.

    python benchmarks/training.py
    python benchmarks/training.py --model inception_v1 --size 64 --batch-size 32 --steps 40
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

BURN_IN = 2  # steps
CLASSES = 10
HEAD = (
    "| what | precision | s / step | images / s | peak memory, MiB | share of the step in fit |\n"
    "|---|---|---|---|---|---|"
)


def measure(who: str, settings: dict) -> dict:
    """One process' measurement of `who`: seconds of each step, share of the steps, peak memory in bytes."""
    import keras
    import tensorflow as tf

    from inception_tf.host.hardware import peak_memory

    class Clock(keras.callbacks.Callback):
        """The start and end of each step; stands first in the list, and last at a step's beginning."""

        def __init__(self):
            super().__init__()
            self.starts, self.ends = [], []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.perf_counter())

    class Start(keras.callbacks.Callback):
        def __init__(self, clock):
            super().__init__()
            self.clock = clock

        def on_train_batch_begin(self, batch, logs=None):
            self.clock.starts.append(time.perf_counter())

    size, batch = settings["size"], settings["batch_size"]
    images = tf.random.stateless_uniform((batch, size, size, 3), (0, 0), -1, 1)
    labels = tf.one_hot(tf.range(batch) % CLASSES, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        make = ours if who == "inception_tf" else theirs
        model, precision, callbacks = make(settings, Path(folder))
        targets = dict.fromkeys(model.output, labels) if isinstance(model.output, dict) else labels
        data = tf.data.Dataset.from_tensors((images, targets)).cache().repeat().prefetch(2)
        clock = Clock()
        model.fit(
            data,
            steps_per_epoch=settings["steps"] + BURN_IN,
            epochs=1,
            callbacks=[clock, *callbacks, Start(clock)],
            verbose=0,
        )
    pairs = list(zip(clock.starts, clock.ends, strict=True))[BURN_IN:]
    seconds = [end - start for start, end in pairs]
    return {
        "precision": precision,
        "seconds": seconds,
        "share": sum(seconds) / (pairs[-1][1] - pairs[0][0]),
        "peak_memory": peak_memory(),
    }


def ours(settings: dict, folder: Path):
    """The model as `train` compiles it, its precision, the callbacks that `train` gives to `fit`."""
    import keras

    from inception_tf.config import Config
    from inception_tf.training.averages import AveragedEvaluation
    from inception_tf.training.callbacks import Bar, Recorder
    from inception_tf.training.compiled import compiled_model
    from inception_tf.training.plan import make_plan
    from inception_tf.training.resume import Progress
    from inception_tf.training.run import Run

    config = Config().override(
        [
            f"model.name={settings['model']}",
            f"model.size={settings['size']}",
            f"data.batch_size={settings['batch_size']}",
            f"training.precision={settings['precision']}",
        ]
    )
    plan = make_plan(config)
    recorder = Recorder(Run(folder), Progress())
    recorder.on_epoch_end = lambda *_: None  # no checkpoint: an epoch here is a few steps
    board = keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)
    bar = Bar(config.training.epochs, config.data.batch_size)
    return (
        compiled_model(plan),
        plan.precision.policy,
        [AveragedEvaluation(), recorder, board, bar],
    )


def theirs(settings: dict, folder: Path):
    """keras.applications' network of the same size and classes, compiled as in its documentation."""
    import keras

    model = keras.applications.InceptionV3(
        weights=None, input_shape=(settings["size"], settings["size"], 3), classes=CLASSES
    )
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    return model, "float32", []


def in_a_process(who: str, settings: dict) -> dict:
    answer = subprocess.run(
        [sys.executable, __file__, "--one", who, "--settings", json.dumps(settings)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def row(who: str, batch: int, measured: list[dict]) -> tuple[str, float]:
    import numpy as np

    seconds = float(np.median([s for one in measured for s in one["seconds"]]))
    memory = max(one["peak_memory"] for one in measured) / 2**20
    share = float(np.median([one["share"] for one in measured]))
    return (
        f"| {who} | {measured[0]['precision']} | {seconds:.3f} | {batch / seconds:.2f}"
        f" | {memory:,.0f} | {share:.1%} |",
        seconds,
    )


@click.command()
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--size", default=299, show_default=True, help="Pixels.")
@click.option("--batch-size", default=16, show_default=True)
@click.option("--steps", default=6, show_default=True, help="Counted steps a process.")
@click.option("--rounds", default=3, show_default=True, help="Processes of each.")
@click.option("--precision", default="auto", show_default=True, help="This project's.")
@click.option("--one", type=click.Choice(("inception_tf", "keras.applications")), hidden=True)
@click.option("--settings", hidden=True)
def main(model, size, batch_size, steps, rounds, precision, one, settings):
    """Prints a table and the ratios.  keras.applications is in it where the model is inception_v3."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if one:
        print(json.dumps(measure(one, json.loads(settings))))
        return
    settings = {
        "model": model,
        "size": size,
        "batch_size": batch_size,
        "steps": steps,
        "precision": precision,
    }
    everybody = ["inception_tf"] + ["keras.applications"] * (model == "inception_v3")
    measured = {who: [] for who in everybody}
    for _ in range(rounds):
        for who in everybody:
            measured[who].append(in_a_process(who, settings))
    print(f"{model}, batch {batch_size}, {size}x{size}\n\n{HEAD}")
    rows = {who: row(who, batch_size, found) for who, found in measured.items()}
    for text, _ in rows.values():
        print(text)
    if len(rows) > 1:
        (_, fast), (_, slow) = rows.values()
        memory = [max(one["peak_memory"] for one in found) for found in measured.values()]
        print(
            f"\n{slow / fast:.2f} times the images per second, {memory[0] / memory[1]:.2f} of the memory"
        )


if __name__ == "__main__":
    main()
