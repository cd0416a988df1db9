# SPDX-License-Identifier: Apache-2.0
"""Deterministic operations of Keras' backend, for one run and not for what the process does afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import keras
import tensorflow as tf

from inception_tf.errors import UserError
from inception_tf.host.hardware import sees_gpu
from inception_tf.host.tensorflow_internals import TENSORFLOW

__all__ = ["op_determinism"]


# XLA reads it when JAX starts.
XLA_FLAG = "--xla_gpu_deterministic_ops=true"


@contextlib.contextmanager
def op_determinism(wanted: bool) -> Iterator[None]:
    """Makes the backend's operations deterministic while the block runs, in all threads.

    Args:
        wanted: False changes nothing.

    Raises:
        UserError: JAX computes on a GPU and was not started with `XLA_FLAG`.
    """
    backend = keras.backend.backend()
    if not wanted:
        yield
    elif backend == "torch":
        with _torch():
            yield
    elif backend == "jax":
        # On a processor its operations are deterministic.
        if sees_gpu() and XLA_FLAG not in os.environ.get("XLA_FLAGS", ""):
            raise UserError(
                f"training.deterministic on a GPU needs the environment variable XLA_FLAGS={XLA_FLAG} with JAX; set"
                " it, or use --set training.deterministic=false"
            )
        yield
    else:
        with _tensorflow():
            yield


@contextlib.contextmanager
def _torch() -> Iterator[None]:
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def _tensorflow() -> Iterator[None]:
    if TENSORFLOW.get("is_op_determinism_enabled")():
        yield
        return
    disable = TENSORFLOW.get("disable_op_determinism")
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable()
