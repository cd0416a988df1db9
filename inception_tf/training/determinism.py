# SPDX-License-Identifier: Apache-2.0
"""Deterministic operations of Keras' backend for one run, and random numbers that a resumed run draws again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.hardware import sees_gpu
from inception_tf.host.tensorflow_internals import TENSORFLOW

__all__ = ["op_determinism", "seed_step"]


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


def seed_step(seed: int, step: int) -> None:
    """Makes the random numbers of a step depend on nothing but the seed and the step.

    Keras' dropout on torch draws from torch's generator of the process, and not from the layer's seed, which a
    checkpoint holds.  Other backends are left alone.

    Args:
        seed: of the run.
        step: counted from 0.
    """
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))


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
    import tensorflow as tf

    disable = TENSORFLOW.get("disable_op_determinism")
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable()
