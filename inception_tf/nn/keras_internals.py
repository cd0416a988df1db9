# SPDX-License-Identifier: Apache-2.0
"""What this package takes of Keras that Keras promises by an underscore only, and the check that it is still there.

A method that is overridden and has another name in a later Keras would never be called: clipping, for one,
would stop without a word.  Modules that rely on such a name call `require` when they are imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras

__all__ = ["PRIVATE", "Private", "layers_of", "require", "saved_as"]

SUPPORTED = "keras>=3.15,<3.16"  # as setup.cfg requires it


@dataclass(frozen=True)
class Private:
    """A private name and what it is for."""

    owner: str  # dotted, below `keras`
    name: str
    use: str
    on_instances: bool = False  # it is an attribute of objects, and not of the class
    tensorflow_alone: bool = False  # other backends have no such name


PRIVATE = (
    Private("optimizers.Adam", "_clip_gradients", "clipping the sum of all replicas' gradients"),
    Private("optimizers.Adam", "_get_variable_index", "Adam's step in one operation"),
    Private("optimizers.Adam", "_trainable_variables", "moving averages", on_instances=True),
    Private(
        *("optimizers.Adam", "_all_reduce_sum_gradients", "clipping the sum of all gradients"),
        tensorflow_alone=True,
    ),
    Private(
        *("optimizers.LossScaleOptimizer", "_stateful_handle_finite_grads", "skipping bad steps")
    ),
    Private(
        *("optimizers.LossScaleOptimizer", "_stateful_handle_non_finite_grads"),
        "skipping bad steps",
    ),
    Private("layers.BatchNormalization", "_moments", "statistics over all replicas"),
    Private(
        *("src.api_export", "register_internal_serializable"),
        "saved models that load without this package",
    ),
    Private("layers.Layer", "_flatten_layers", "layers inside custom layers and wrappers"),
    Private("layers.Identity", "_inbound_nodes", "folding layers", on_instances=True),
    Private("layers.Identity", "_outbound_nodes", "folding layers", on_instances=True),
    Private("Model", "_maybe_symbolic_build", "fit in several processes", tensorflow_alone=True),
)


def require(*names: str) -> None:
    """Checks that Keras still has private names.

    Args:
        *names: of `PRIVATE`.

    Raises:
        RuntimeError: Keras has one of them no longer.
    """
    listed = {one.name: one for one in PRIVATE}
    for name in names:
        one = listed[name]
        if one.tensorflow_alone and keras.backend.backend() != "tensorflow":
            continue
        owner = keras
        for part in one.owner.split("."):
            owner = getattr(owner, part)
        if not hasattr(owner() if one.on_instances else owner, name):
            raise RuntimeError(
                f"Keras {keras.__version__} has no {one.owner}.{name}, on which {one.use} relies;"
                f" install {SUPPORTED}"
            )


def saved_as(name: str) -> Callable[[type], type]:
    """A decorator: saved models name the class by a dotted `name` below `keras`, under which Keras has its base class.

    A saved model then loads with the base class where this package is not imported, and with the
    decorated one where it is.  Keras' own objects are saved under their public names, `keras.layers...`;
    `name` must be another one, such as `keras.src.layers...`, or they would be loaded as the decorated class.

    Args:
        name: module and class, such as "keras.src.layers.BatchNormalization".

    Returns:
        The decorator, which returns the class that it is given.
    """

    def register(cls: type) -> type:
        keras.src.api_export.register_internal_serializable(name, cls)
        return cls

    return register


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers of a model: those of nested models, of wrappers such as `TimeDistributed`, and of custom layers.

    Args:
        model: built or not.

    Returns:
        Each layer once, the model itself not among them.
    """
    require("_flatten_layers")
    return model._flatten_layers(include_self=False)
