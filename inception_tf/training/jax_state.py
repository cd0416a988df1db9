# SPDX-License-Identifier: Apache-2.0
"""A model's variables while `fit` runs on JAX, where their values are in the loop and not in the variables."""

from __future__ import annotations

import keras

__all__ = ["attached"]


def attached(model: keras.Model) -> keras.Model:
    """Puts the newest values into the variables of a model that is being trained.

    On JAX a step takes the values of all variables and returns them; a callback has to call this before it reads
    or assigns one.  It takes milliseconds of a large network, and reading what it attaches waits for the step.

    Args:
        model: any model; on other backends nothing is to be done.

    Returns:
        The model.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return model
