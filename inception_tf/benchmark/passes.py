# SPDX-License-Identifier: Apache-2.0
"""Forward passes and gradients on each of Keras' backends, as calls that end when their result is in NumPy.

Whatever is timed must be computed: every call returns a number that depends on all of it.  A graph
optimizer may drop whatever the result does not depend on, and TensorFlow's does.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

__all__ = ["BACKENDS", "compiled", "forward", "gradients", "wait"]

BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, that can be timed
TINY = 1e-7  # added to a probability before its logarithm


def compiled(function: Callable, how: str) -> Callable:
    """Compiles a function of tensors with Keras' backend.

    Args:
        function: takes and returns (nested) tensors of Keras' backend.
        how: "graph" (tf.function, jax.jit, torch.compile), "xla" (the same with XLA on TensorFlow and JAX)
            or "none" (eager).

    Returns:
        A function with the same arguments and results.
    """
    backend = keras.backend.backend()
    if how == "none":
        return function
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=how == "xla", autograph=False)
    if backend == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.compile(function)


def wait(values: object) -> None:
    """Blocks until the backend has computed some values; its device may lag behind Python.

    Args:
        values: (nested) tensors of Keras' backend.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        jax.block_until_ready(values)
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.test.experimental.sync_devices()
    else:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def forward(model: keras.Model, how: str, *, training: bool = False) -> Callable:
    """Builds the forward pass of a model with one output.

    Args:
        model: (N, H, W, C) → (N, K).
        how: as in `compiled`.
        training: with batch statistics and dropout; the moving statistics are updated too.

    Returns:
        A function (N, H, W, C) images → NumPy array (N, K).
    """
    call = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    step = call(model, how, training)
    return lambda images: keras.ops.convert_to_numpy(step(images))


def gradients(model: keras.Model, how: str) -> Callable:
    """Builds the forward pass in training mode with the gradients of all trainable variables.

    The loss is the mean cross-entropy of the model's probabilities as if every image were of class 0.

    Args:
        model: (N, H, W, C) → (N, K) probabilities.
        how: as in `compiled`.

    Returns:
        A function (N, H, W, C) images → NumPy array (2,) float32: the loss and the global norm of the
        gradients.  The norm depends on every gradient, so that none can be optimized away.
    """
    call = {
        "tensorflow": _tensorflow_gradients,
        "jax": _jax_gradients,
        "torch": _torch_gradients,
    }[keras.backend.backend()]
    step = call(model, how)
    return lambda images: keras.ops.convert_to_numpy(step(images)).astype("float32")


def _loss(probabilities):
    return -keras.ops.mean(keras.ops.log(probabilities[:, 0] + TINY))


def _loss_and_norm(loss, gradients):
    """(2,) float32."""
    squares = [keras.ops.sum(keras.ops.square(keras.ops.cast(g, "float32"))) for g in gradients]
    norm = keras.ops.sqrt(sum(squares))
    return keras.ops.stack([keras.ops.cast(loss, "float32"), norm])


def _tensorflow(model: keras.Model, how: str, training: bool) -> Callable:
    return compiled(lambda images: model(images, training=training), how)


def _tensorflow_gradients(model: keras.Model, how: str) -> Callable:
    import tensorflow as tf

    def step(images):
        with tf.GradientTape() as tape:
            loss = _loss(model(images, training=True))
        return _loss_and_norm(loss, tape.gradient(loss, model.trainable_variables))

    return compiled(step, how)


def _values(model: keras.Model) -> tuple[list, list]:
    return (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )


def _jax(model: keras.Model, how: str, training: bool) -> Callable:
    def step(trainable, rest, images):
        # The statistics are returned too: what is not returned is not computed.
        outputs, rest = model.stateless_call(trainable, rest, images, training=training)
        return (outputs, rest) if training else (outputs, ())

    call, weights = compiled(step, how), _values(model)

    def run(images):
        # A training step in between donates its old variables.
        outputs, rest = call(*(_values(model) if training else weights), images)
        wait(rest)
        return outputs

    return run


def _jax_gradients(model: keras.Model, how: str) -> Callable:
    import jax

    def loss(trainable, rest, images):
        probabilities, rest = model.stateless_call(trainable, rest, images, training=True)
        return _loss(probabilities), rest

    def step(trainable, rest, images):
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(trainable, rest, images)
        return _loss_and_norm(value, grads), rest, grads

    call = compiled(step, how)

    def run(images):
        result, *others = call(*_values(model), images)
        wait(others)
        return result

    return run


def _torch(model: keras.Model, how: str, training: bool) -> Callable:
    import torch

    call = compiled(lambda images: model(images, training=training), how)

    def run(images):
        with torch.no_grad():
            return call(images)

    return run


def _torch_gradients(model: keras.Model, how: str) -> Callable:
    import torch

    call = compiled(lambda images: _loss(model(images, training=True)), how)

    def run(images):
        model.zero_grad()
        loss = call(images)
        loss.backward()
        with torch.no_grad():
            return _loss_and_norm(loss, [v.value.grad for v in model.trainable_variables])

    return run
