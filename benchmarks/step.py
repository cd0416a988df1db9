# SPDX-License-Identifier: Apache-2.0
"""The gain of each part of a fast training step on this processor: with and without it, interleaved in one process.

The step is the one that `train` compiles and `model.fit` calls, with the recipe `default`, on one batch in
memory.  The clock includes one step from its call to its loss in Python; tracing and the first two steps
are not counted.  CPU time is that of all threads: where other programs run at the same time, it is more
stable than the clock.  Ratios are medians over the rounds, each of which runs every variant once, relative
to the step without any of the parts.  An impossible figure is rejected.

    python benchmarks/step.py
    python benchmarks/step.py --model inception_v4 --batch-size 8
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from unittest import mock

import click
from side_by_side import evidence, network_options, one_sentence

BURN_IN = 2  # rounds
PARTS = ("filter gradients as products", "merged 1x1 convolutions", "Adam in one operation")
HEAD = "| step | s | relative | CPU time, s | relative |\n|---|---|---|---|---|"


@contextmanager
def only(parts):
    """Inside, models are compiled with these parts of `PARTS` alone."""
    import keras

    from inception_tf.training import convolutions
    from inception_tf.training.optim.optimizers import Adam

    products, side_by_side, one_operation = (part in parts for part in PARTS)
    with ExitStack() as stack:
        if not products:
            stack.enter_context(mock.patch.object(convolutions, "_is_wide", return_value=False))
        if not side_by_side:
            stack.enter_context(mock.patch.object(convolutions, "_sibling_groups", return_value=[]))
        if not one_operation:
            keras_own = keras.optimizers.Adam.update_step
            stack.enter_context(mock.patch.object(Adam, "update_step", keras_own))
        yield


def step_of(settings: list[str]):
    """A call that trains one step and ends when the loss is in Python; traced already."""
    import tensorflow as tf

    from inception_tf.config import Config
    from inception_tf.training.compile import compiled_model
    from inception_tf.training.plan import make_plan

    config = Config().override(settings)
    model = compiled_model(make_plan(config))
    batch = config.data.batch_size
    images = tf.random.stateless_uniform((batch, *model.input.shape[1:]), (0, 0), -1, 1)
    labels = tf.one_hot(tf.range(batch) % 10, model.output["predictions"].shape[-1])
    targets = dict.fromkeys(model.output, labels)
    batches = iter(tf.data.Dataset.from_tensors((images, targets)).cache().repeat().prefetch(2))
    model.make_train_function()
    return lambda: float(model.train_function(batches)["loss"])


def measured(calls: dict, rounds: int) -> dict:
    """`{name: ([seconds], [processor seconds])}` of each call, in turn."""
    found = {name: ([], []) for name in calls}
    for number in range(-BURN_IN, rounds):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            spent = time.perf_counter() - clock, time.process_time() - processor
            if number >= 0:
                for values, value in zip(found[name], spent, strict=True):
                    values.append(value)
    return found


@click.command()
@network_options(batch_size=16, rounds=8, precision="auto")
def main(model: str, size: int | None, batch_size: int, precision: str, rounds: int) -> None:
    """The training step without its fast parts, with each of them alone, and with all."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with one_sentence():
        page(model, size, batch_size, precision, rounds)


def page(model: str, size: int | None, batch_size: int, precision: str, rounds: int) -> None:
    """Measures and prints; `UserError` for an impossible figure."""
    import numpy as np

    from inception_tf.benchmark.peak import measure_flops
    from inception_tf.benchmark.plausibility import Peak, refuse_suspect
    from inception_tf.host.hardware import device_name, resolve_precision
    from inception_tf.models import find_network

    size = size or find_network(model).size
    settings = [
        f"model.name={model}",
        f"model.size={size}",
        f"data.batch_size={batch_size}",
        f"training.precision={precision}",
    ]
    policy = resolve_precision(precision).policy
    kind = policy.removeprefix("mixed_")
    before = Peak(measure_flops(kind))
    variants = {"without": (), **{part: (part,) for part in PARTS}, "with all": PARTS}
    calls = {}
    for name, parts in variants.items():
        with only(parts):
            calls[name] = step_of(settings)
            calls[name]()  # traced here, where the parts are chosen
    found = measured(calls, rounds)
    peak = before.better(Peak(measure_flops(kind)))
    refuse_suspect(
        (
            name,
            evidence(
                "Train-step",
                model,
                size,
                batch_size,
                policy,
                float(np.median(own)),
                peak,
                classes=10,
            ),
        )
        for name, (own, _) in found.items()
    )
    click.echo(f"{model}, batch {batch_size}, {size} pixels, {rounds} rounds, {device_name()}\n")
    click.echo(HEAD)
    for name, lists in found.items():
        cells = [
            f"{np.median(own):.3f} | {np.median(np.divide(own, base)):.3f}"
            for own, base in zip(lists, found["without"], strict=True)
        ]
        click.echo(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
