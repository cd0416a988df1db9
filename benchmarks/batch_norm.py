# SPDX-License-Identifier: Apache-2.0
"""What fused batch normalization is worth: one network with it and with Keras' own layer, in turn, in one process.

The clock includes one call of the compiled training step (forward, backward, SGD with momentum) or of
the forward pass, from a batch in memory to a number in Python.  Tracing and two first calls are not
counted.  Every round runs all variants once; the table has the medians over the rounds.

    python benchmarks/batch_norm.py --model inception_v3 --batch-size 8
"""

from __future__ import annotations

import os
import time

import click

PRECISIONS = ("float32", "mixed_bfloat16")
HEAD = "| precision | what | Keras' layer, s | fused, s | ratio |\n|---|---|---|---|---|"


def variants(name: str, size: int, batch: int):
    """`{(precision, what, layer): function}`, each a call that ends when its result is in Python."""
    import keras
    import tensorflow as tf

    from inception_tf import create_model
    from inception_tf.layers import BatchNormalization

    def keras_own(layer):
        kind = type(layer)
        if kind is BatchNormalization:
            kind = keras.layers.BatchNormalization
        return kind.from_config(layer.get_config())

    images = tf.random.stateless_uniform((batch, size, size, 3), (0, 0), -1, 1)
    labels = tf.range(batch) % 10
    calls = {}
    for precision in PRECISIONS:
        ours = create_model(name, classes=10, input_shape=(size, size, 3), dtype=precision)
        theirs = keras.models.clone_model(ours, clone_function=keras_own)
        for layer, model in (("keras", theirs), ("fused", ours)):
            model.compile(
                keras.optimizers.SGD(0.01, momentum=0.9),
                "sparse_categorical_crossentropy",
                jit_compile=False,
            )
            forward = tf.function(lambda x, model=model: model(x, training=False))
            calls[precision, "training step", layer] = lambda model=model: float(
                model.train_on_batch(images, labels)
            )
            calls[precision, "forward", layer] = lambda forward=forward: forward(images).numpy()
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


@click.command()
@click.option("--model", default="inception_v3", show_default=True)
@click.option("--size", default=None, type=int, help="Pixels; the network's own by default.")
@click.option("--batch-size", default=8, show_default=True)
@click.option("--rounds", default=7, show_default=True)
def main(model: str, size: int | None, batch_size: int, rounds: int) -> None:
    """Fused batch normalization against Keras' own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from inception_tf.host.hardware import device_name
    from inception_tf.models import find

    size = size or find(model).size
    found = medians(variants(model, size, batch_size), rounds)
    click.echo(f"{model}, batch {batch_size}, {size} pixels, {rounds} rounds, {device_name()}\n")
    click.echo(HEAD)
    for precision, what, layer in found:
        if layer == "fused":
            theirs, ours = (found[precision, what, kind] for kind in ("keras", "fused"))
            click.echo(
                f"| {precision} | {what} | {theirs:.4f} | {ours:.4f} | {theirs / ours:.2f} |"
            )


if __name__ == "__main__":
    main()
