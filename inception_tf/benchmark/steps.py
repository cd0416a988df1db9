# SPDX-License-Identifier: Apache-2.0
"""One step of a benchmark as a function without arguments, for each way to run a network.

A step ends when its result lies in NumPy: the probabilities, or after forward-backward the loss, which
waits for every gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import keras
import numpy as np

from inception_tf.applications import create_model
from inception_tf.benchmark.case import Case
from inception_tf.benchmark.passes import CALLS, mean_loss
from inception_tf.errors import UserError
from inception_tf.frozen import one_graph
from inception_tf.host.hardware import resolve_precision, usable_cores
from inception_tf.optimize import optimize_for_inference

__all__ = ["Prepared", "prepare"]

SEED = 0
FROZEN = (
    8  # images a batch up to which weights that are constants save time, and are worth their memory
)


@dataclass(frozen=True)
class Prepared:
    """A step, and what the report's first line says of it."""

    step: Callable[[], object]
    parameters: int
    precision: str
    threads: int
    backend: str


def prepare(case: Case) -> Prepared:
    """The network of a checked `case`, ready to be timed; its weights are random, which takes the same time."""
    precision = case.precision
    if precision == "auto":
        precision = resolve_precision("auto").policy.removeprefix("mixed_")
    make = {"tensorflow": _tensorflow, "keras": _keras, "openvino": _openvino}[case.backend]
    return make(case, precision)


def _network(case: Case, policy: str = "float32") -> keras.Model:
    return create_model(case.model, input_shape=(case.size, case.size, 3), dtype=policy)


def _policy(precision: str) -> str:
    """For training: weights stay float32."""
    return precision if precision == "float32" else f"mixed_{precision}"


def _tensorflow(case: Case, precision: str) -> Prepared:
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND is {keras.backend.backend()}; time it with --backend keras, or unset it"
        )
    import tensorflow as tf

    threads = _tensorflow_threads(case.threads)
    shape = (case.batch_size, case.size, case.size, 3)
    constant = tf.constant(_images(shape))

    def images():
        return tf.random.uniform(shape, -1, 1) if case.input == "redrawn" else constant

    if case.kind == "forward":
        model = _network(case)
        parameters = model.count_params()
        model = optimize_for_inference(model, precision)  # the other is let go
        call = _forward_graph(case, model)
    else:
        model = _network(case, _policy(precision))
        parameters = model.count_params()
        call = _gradient_graph(case, model)
    return Prepared(
        lambda: np.asarray(call(images())),
        parameters,
        precision,
        threads,
        f"TensorFlow {tf.__version__}, {_WORDS[case.compile]}",
    )


_WORDS = {"graph": "one graph", "xla": "compiled with XLA", "none": "operation by operation"}


def _forward_graph(case: Case, model: keras.Model) -> Callable:
    if case.compile == "graph":
        return one_graph(model, case.batch_size)

    def call(images):
        return model(images, training=False)

    if case.compile == "none":
        return call
    import tensorflow as tf

    return tf.function(call, jit_compile=True, autograph=False)


def _gradient_graph(case: Case, model: keras.Model) -> Callable:
    import tensorflow as tf

    def call(images):
        with tf.GradientTape() as tape:
            value = mean_loss(model(images, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        with tf.control_dependencies(gradients):
            return tf.identity(value)

    if case.compile == "none":
        return call
    return tf.function(call, jit_compile=case.compile == "xla", autograph=False)


def _tensorflow_threads(wanted: int | None) -> int:
    import tensorflow as tf

    if wanted is not None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(wanted)
            tf.config.threading.set_inter_op_parallelism_threads(wanted)  # operations side by side
        except RuntimeError as error:
            raise UserError(
                "TensorFlow's threads are set once in a process; time another number in another call"
            ) from error
    return wanted or usable_cores()


def _openvino(case: Case, precision: str) -> Prepared:
    from inception_tf.runtimes import openvino

    model = _network(case)
    shape = (case.batch_size, case.size, case.size, 3)
    constant, draws = _images(shape), np.random.default_rng(SEED)
    # Random weights: what int8 is calibrated with does not change its time.
    calibration = [constant[:1]] if precision == "int8" else None
    run = openvino.compiled(model, calibration, precision, case.threads)

    def step():
        if case.input == "constant":
            return run(constant)
        return run(draws.random(shape, np.float32) * 2 - 1)

    return Prepared(
        step,
        model.count_params(),
        precision,
        case.threads or usable_cores(),
        f"OpenVINO {openvino.version()}",
    )


def _keras(case: Case, precision: str) -> Prepared:
    """As Keras' backend runs it: `predict` on TensorFlow, one compiled function on jax, eagerly on torch.

    On jax and torch the batch lies in the memory of the device, a GPU where there is one.
    """
    if case.threads is not None:
        raise UserError("--threads is for the backends tensorflow and openvino")
    backend = keras.backend.backend()
    shape = (case.batch_size, case.size, case.size, 3)
    seed = keras.random.SeedGenerator(SEED)
    constant = _images(shape)
    if backend != "tensorflow":
        constant = keras.ops.convert_to_tensor(constant)
    forward, gradients = CALLS[backend]
    if case.kind == "forward":
        model = _network(case)
        parameters = model.count_params()
        if backend == "tensorflow":  # what users of Keras call, on what they call it on
            model = _network(case, _policy(precision))
        else:
            model = optimize_for_inference(model, precision)
        call = forward(model)
    else:
        model = _network(case, _policy(precision))
        parameters = model.count_params()
        call = gradients(model)

    def images():
        return (
            constant if case.input == "constant" else keras.random.uniform(shape, -1, 1, seed=seed)
        )

    return Prepared(
        lambda: call(images()),
        parameters,
        precision,
        usable_cores(),
        f"Keras {keras.__version__} on {backend} {metadata.version(backend)}",
    )


def _images(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(-1, 1, shape).astype("float32")
