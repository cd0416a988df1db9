# SPDX-License-Identifier: Apache-2.0
"""One step of a benchmark as a function without arguments, for each way to run a network.

A step ends when its result is in NumPy: the probabilities; for forward-backward the loss and the norm of
all gradients; for a train-step the loss, with the weights updated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from inception_tf.applications import create_model
from inception_tf.benchmark import passes
from inception_tf.benchmark.case import Case
from inception_tf.errors import UserError
from inception_tf.host.environment import version_of
from inception_tf.host.hardware import Precision, resolve_precision
from inception_tf.inference.constant_graph import make_graph
from inception_tf.inference.optimize import optimize_for_inference
from inception_tf.models import find_network
from inception_tf.training.model_plan import ModelPlan
from inception_tf.training.recipes import network_of, read_recipe

__all__ = ["Prepared", "model_plan", "prepare", "resolved", "set_threads", "trains_auxiliaries"]

SEED = 0
CLASSES = 1000
# Of a train-step, so that its learning rate stays at the start of the recipe's warm-up.
STEPS_PER_EPOCH = 1_000_000


@dataclass(frozen=True)
class Prepared:
    """A compiled step, and what the report's first line says about it."""

    step: Callable[[], object]
    parameters: int
    backend: str
    forward: Callable[[], object] | None = None  # in training mode; of gradient steps
    model: Callable[[], keras.Model] | None = (
        None  # of a train-step: as compiled and trained so far
    )


def resolved(case: Case) -> Case:
    """Fills in the precision and the compilation of a case.

    Args:
        case: a checked case.

    Returns:
        The case with neither `auto` nor None left in them.

    Raises:
        UserError: Keras' backend cannot be timed.
    """
    precision, compile_, backend = case.precision, case.compile, keras.backend.backend()
    if backend not in passes.BACKENDS:
        raise UserError(
            f"KERAS_BACKEND is {backend}; benchmarks run on {', '.join(passes.BACKENDS)}"
        )
    if precision == "auto":
        precision = resolve_precision("auto").policy.removeprefix("mixed_")
    if compile_ is None:
        compile_ = "none" if backend == "torch" else "graph"
    return dataclasses.replace(case, precision=precision, compile=compile_)


def set_threads(case: Case) -> None:
    """Sets the number of threads of TensorFlow; OpenVINO gets its own when it compiles.

    Args:
        case: a resolved case; does nothing where its `threads` is None.

    Raises:
        UserError: the backend has no such setting, or TensorFlow is initialized already.
    """
    if case.threads is None or case.backend == "openvino":
        return
    if keras.backend.backend() != "tensorflow" or case.backend == "keras":
        raise UserError("--threads works with the backends tensorflow and openvino only")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(case.threads)
        # Also the operations that run in parallel.
        tf.config.threading.set_inter_op_parallelism_threads(case.threads)
    except RuntimeError as error:
        raise UserError(
            "the number of TensorFlow's threads is fixed once it runs; time another number in another process"
        ) from error


def prepare(case: Case, network: keras.Model | None = None) -> Prepared:
    """Builds the network of a case and its step; the weights are random, which takes the same time.

    Args:
        case: a resolved case.
        network: for a forward pass, a float32 network of that name and size to use; None: build one.

    Returns:
        The step, not compiled before its first call.

    Raises:
        UserError: the case needs another backend than Keras has.
    """
    backend = keras.backend.backend()
    if case.backend == "tensorflow" and backend != "tensorflow":
        raise UserError(f"KERAS_BACKEND is {backend}; use --backend keras, or unset it")
    if case.backend == "openvino":
        return _openvino(case)
    if case.kind == "forward":
        step, parameters, forward = _forward(case, network)
        return Prepared(step, parameters, _describe(case), forward)
    if case.kind == "forward-backward":
        step, parameters, forward = _gradients(case)
        return Prepared(step, parameters, _describe(case), forward)
    step, trained, forward = _train_step(case)
    return Prepared(step, trained().count_params(), _describe(case), forward, trained)


def trains_auxiliaries(case: Case) -> bool:
    """Whether a train-step includes the auxiliary classifiers, by its recipe.

    Args:
        case: a resolved case.

    Returns:
        False for other kinds of steps.
    """
    return case.kind == "train-step" and bool(model_plan(case).auxiliaries())


def _describe(case: Case) -> str:
    """The backend, its version, and how it executes."""
    backend = keras.backend.backend()
    words = {
        ("tensorflow", "graph"): "one graph",
        ("tensorflow", "xla"): "compiled with XLA",
        ("jax", "graph"): "compiled with XLA",
        ("jax", "xla"): "compiled with XLA",
        ("torch", "graph"): "torch.compile",
        ("torch", "xla"): "torch.compile",
    }.get((backend, case.compilation), "operation by operation")
    version = version_of(backend)
    if case.backend == "tensorflow":
        return f"TensorFlow {version}, {words}"
    if case.kind == "forward" and backend == "tensorflow":
        words = "predict"
    return f"Keras {keras.__version__} on {backend} {version}, {words}"


def _images(case: Case) -> Callable[[], object]:
    """A function that gives a batch (N, H, W, 3) in [-1, 1] in the memory of Keras' device."""
    shape = (case.batch_size, case.pixels, case.pixels, 3)
    if case.input == "constant":
        constant = keras.ops.convert_to_tensor(_constant(shape))
        return lambda: constant
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return lambda: tf.random.uniform(shape, -1, 1)
    seed = keras.random.SeedGenerator(SEED)
    return lambda: keras.random.uniform(shape, -1, 1, seed=seed)


def _constant(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(-1, 1, shape).astype("float32")


def _forward(case: Case, network: keras.Model | None) -> tuple[Callable, int, None]:
    images = _images(case)
    if case.backend == "keras" and keras.backend.backend() == "tensorflow":
        # What users of Keras call.
        model = _network(case, _policy(case.precision))

        def step():
            return model.predict(np.asarray(images()), batch_size=case.batch_size, verbose=0)

        return step, model.count_params(), None
    model = _network(case) if network is None else network
    parameters = model.count_params()
    model = optimize_for_inference(model, case.precision)  # frees the original
    if case.backend == "tensorflow" and case.compile == "graph":
        call = make_graph(model, case.batch_size)
        return lambda: np.asarray(call(images())), parameters, None
    call = passes.forward(model, case.compilation)
    return lambda: call(images()), parameters, None


def _gradients(case: Case) -> tuple[Callable, int, Callable]:
    images = _images(case)
    model = _network(case, _policy(case.precision))
    call = passes.gradients(model, case.compilation)
    forward = passes.forward(model, case.compilation, training=True)
    return lambda: call(images()), model.count_params(), lambda: forward(images())


def _train_step(case: Case) -> tuple[Callable, Callable[[], keras.Model], Callable]:
    """The step that `fit` runs, of the model as `train` compiles it."""
    from inception_tf.training.compile import compiled_model

    images = _images(case)
    model = compiled_model(model_plan(case), pretrained=False)
    if case.compile != "graph":
        model.run_eagerly = case.compile == "none" and keras.backend.backend() != "torch"
        model.jit_compile = case.compile == "xla"
    elif keras.backend.backend() != "tensorflow":
        model.jit_compile = True
    labels = keras.ops.one_hot(np.arange(case.batch_size) % CLASSES, CLASSES)
    targets = dict.fromkeys(model.output, labels)
    classifier = keras.Model(model.inputs, model.output["predictions"])
    forward = passes.forward(classifier, case.compilation, training=True)

    make = train_step_on_jax if keras.backend.backend() == "jax" else train_step_by_keras
    return *make(model, lambda: (images(), targets)), lambda: forward(images())


Trained = tuple[Callable[[], dict], Callable[[], keras.Model]]


def train_step_by_keras(model: keras.Model, batch: Callable[[], tuple]) -> Trained:
    """A step by `train_on_batch`, and what gives the model."""

    def step() -> dict:
        logs = model.train_on_batch(*batch(), return_dict=True)
        # The loss may arrive before a GPU has updated the last weight.
        passes.wait([variable.value for variable in model.trainable_variables])
        return logs

    return step, lambda: model


def train_step_on_jax(model: keras.Model, batch: Callable[[], tuple]) -> Trained:
    """A step that keeps its state as `fit` does on JAX, and what gives the model that state.

    `train_on_batch` copies it into every variable of the model after each step: 12 of the 36 ms of Inception V3
    with 64 images on an H200.
    """
    state: tuple | None = None

    def variables() -> tuple:
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )

    def step() -> dict:
        nonlocal state
        if state is None:
            model.make_train_function()
            state = tuple([variable.value for variable in some] for some in variables())
        logs, state = model.train_function(state, iter([(*batch(), None)]))
        passes.wait(state[0])
        return {name: float(value) for name, value in logs.items()}

    def trained() -> keras.Model:
        nonlocal state
        if state is not None:
            for some, values in zip(variables(), state, strict=True):
                for variable, value in zip(some, values, strict=True):
                    variable.assign(value)
            state = None
        return model

    return step, trained


def model_plan(case: Case) -> ModelPlan:
    """The plan by which the network of a train-step is compiled.

    Args:
        case: a resolved train-step.

    Returns:
        The plan, for 1,000 classes.

    Raises:
        UserError: the recipe is written for another network.
    """
    written_for = network_of(case.recipe)
    if written_for and written_for != case.model:
        raise UserError(
            f"recipe {case.recipe} is written for {written_for}, not for {case.model}; use another"
            " --recipe, or that network"
        )
    config = read_recipe(case.recipe).override(
        [
            f"model.name={case.model}",
            f"model.size={case.size}",
            f"data.batch_size={case.batch_size}",
        ]
    )
    precision = Precision(_policy(case.precision), "as asked for")
    return ModelPlan(
        config, find_network(case.model), CLASSES, case.pixels, STEPS_PER_EPOCH, precision
    )


def _network(case: Case, policy: str = "float32") -> keras.Model:
    return create_model(case.model, input_shape=(case.pixels, case.pixels, 3), dtype=policy)


def _policy(precision: str) -> str:
    """The dtype policy for training: weights stay float32."""
    return precision if precision == "float32" else f"mixed_{precision}"


def _openvino(case: Case) -> Prepared:
    from inception_tf.inference.runtimes import openvino

    model = _network(case)
    shape = (case.batch_size, case.pixels, case.pixels, 3)
    constant, draws = _constant(shape), np.random.default_rng(SEED)
    # The weights are random: the calibration images of int8 do not change its time.
    calibration = [constant[:1]] if case.precision == "int8" else None
    run = openvino.compile_for_cpu(model, calibration, case.precision, case.threads)

    def step():
        if case.input == "constant":
            return run(constant)
        return run(draws.random(shape, np.float32) * 2 - 1)

    return Prepared(step, model.count_params(), f"OpenVINO {openvino.openvino_version()}")
