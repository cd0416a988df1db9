# SPDX-License-Identifier: Apache-2.0
"""This package's batch normalization compared with Keras' layer: one network with each, interleaved in one process.

On TensorFlow ours is one fused operation, on torch it keeps the variance of channels with a large mean, on JAX it is
Keras' layer with the statistics in float32.

The clock includes one call of the compiled training step (forward, backward, SGD with momentum) or of
the forward pass, from a batch in memory to a number in Python.  Tracing and the first two calls are not
counted.  Every round runs all variants once; the table has the medians over the rounds.  The peak of the
machine is measured before and after; an impossible figure is rejected, and no table is printed.

    python benchmarks/batch_norm.py --model inception_v3 --batch-size 8
    KERAS_BACKEND=torch python benchmarks/batch_norm.py --model inception_v1 --size 96
"""

from __future__ import annotations

import os
import time

import click
from side_by_side import evidence, network_options, one_sentence

from inception_tf.benchmark.plausibility import Peak

CLASSES = 10
PRECISIONS = ("float32", "mixed_bfloat16")
HEAD = "| precision | what | Keras' layer, s | ours, s | ratio |\n|---|---|---|---|---|"


def variants(name: str, size: int, batch: int):
    """`{(precision, what, layer): function}`, each a call that ends when its result is in Python."""
    import keras
    import numpy as np

    from inception_tf import create_model
    from inception_tf.benchmark import passes
    from inception_tf.nn.batch_norm import BatchNormalization

    def keras_own(layer):
        kind = type(layer)
        if kind is BatchNormalization:
            kind = keras.layers.BatchNormalization
        return kind.from_config(layer.get_config())

    images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype("float32")
    images = keras.ops.convert_to_tensor(images)
    labels = keras.ops.convert_to_tensor(np.arange(batch, dtype="int32") % CLASSES)
    backend = keras.backend.backend()
    calls = {}
    for precision in PRECISIONS:
        ours = create_model(name, classes=CLASSES, input_shape=(size, size, 3), dtype=precision)
        theirs = keras.models.clone_model(ours, clone_function=keras_own)
        models = {"keras": theirs, "ours": ours}
        copies = {layer: keras.models.clone_model(model) for layer, model in models.items()}
        for layer, model in models.items():
            model.compile(
                keras.optimizers.SGD(0.01, momentum=0.9),
                "sparse_categorical_crossentropy",
                jit_compile=backend == "jax",
            )
            # Of a copy: JAX's training step frees the weights that it was given.
            forward = passes.forward(copies[layer], "none" if backend == "torch" else "graph")
            calls[precision, "training step", layer] = lambda model=model: float(
                model.train_on_batch(images, labels)
            )
            calls[precision, "forward", layer] = lambda forward=forward: forward(images)
    return calls


def medians(calls, rounds: int) -> dict:
    import numpy as np

    seconds = {key: [] for key in calls}
    for number in range(-2, rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= 0:
                seconds[key].append(time.perf_counter() - start)
    return {key: float(np.median(values)) for key, values in seconds.items()}


def limits() -> dict[str, Peak]:
    """What this process reaches now, by precision."""
    from inception_tf.benchmark.peak import measure_flops

    return {
        precision: Peak(measure_flops(precision.removeprefix("mixed_"))) for precision in PRECISIONS
    }


def page(model: str, size: int, batch: int, found: dict, peaks: dict[str, Peak]) -> str:
    """The table; `UserError` where a figure is impossible.

    Args:
        found: seconds by (precision, what, layer), as of `medians`.
        peaks: what the machine reaches, by precision.
    """
    from inception_tf.benchmark.plausibility import refuse_suspect

    figures = []
    for (precision, what, layer), seconds in found.items():
        trains = what == "training step"
        kind = "Train-step" if trains else "Forward"
        # A forward pass in training mode takes longer still.
        forward = found[precision, "forward", layer] if trains else None
        facts = (kind, model, size, batch, precision, seconds, peaks[precision])
        evidence_ = evidence(*facts, classes=CLASSES, forward_seconds=forward)
        figures.append((f"{what}, {precision}, {layer}", evidence_))
    refuse_suspect(figures)
    lines = [HEAD]
    for precision, what, layer in found:
        if layer == "ours":
            theirs, ours = (found[precision, what, kind] for kind in ("keras", "ours"))
            lines.append(
                f"| {precision} | {what} | {theirs:.4f} | {ours:.4f} | {theirs / ours:.2f} |"
            )
    return "\n".join(lines)


@click.command()
@network_options(batch_size=8, rounds=7)
def main(model: str, size: int | None, batch_size: int, rounds: int) -> None:
    """Compare this package's batch normalization with Keras' layer, on Keras' backend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from inception_tf.host.hardware import device_name
    from inception_tf.models import find_network

    with one_sentence():
        size = size or find_network(model).size
        before = limits()
        found = medians(variants(model, size, batch_size), rounds)
        after = limits()
        peaks = {precision: before[precision].better(after[precision]) for precision in PRECISIONS}
        table = page(model, size, batch_size, found, peaks)
    import keras

    where = f"{keras.backend.backend()}, {device_name()}"
    click.echo(f"{model}, batch {batch_size}, {size} pixels, {rounds} rounds, {where}\n")
    click.echo(table)


if __name__ == "__main__":
    main()
