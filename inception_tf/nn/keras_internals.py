# SPDX-License-Identifier: Apache-2.0
"""Keras' private names that this package overrides or reads; modules that use one call `require` when imported."""

from __future__ import annotations

from collections.abc import Callable

import keras

from inception_tf.host.private_names import PrivateName, PrivateNames

__all__ = ["JAX_ALONE", "KERAS", "TENSORFLOW_ALONE", "layers_of", "require", "saved_as"]

# Other backends have no such name.
TENSORFLOW_ALONE = ("_all_reduce_sum_gradients", "_maybe_symbolic_build")
JAX_ALONE = ("_update_metrics_variables",)

_ADAM, _LOSS_SCALE = "keras.optimizers.Adam", "keras.optimizers.LossScaleOptimizer"
# Of the class: an instance would create variables, and with them initialize the devices.
_OPTIMIZER = "keras.optimizers.Optimizer"
_BATCH_NORM = "keras.layers.BatchNormalization"
KERAS = PrivateNames(
    "keras>=3.15,<3.16",
    (
        PrivateName(_ADAM, "_clip_gradients", "clipping the sum of all replicas' gradients"),
        PrivateName(_ADAM, "_all_reduce_sum_gradients", "clipping the sum of all gradients"),
        PrivateName(_ADAM, "_get_variable_index", "Adam's step in one operation"),
        PrivateName(_ADAM, "_momentums", "Adam's step in one operation", set_by="build"),
        PrivateName(_ADAM, "_velocities", "Adam's step in one operation", set_by="build"),
        PrivateName(_OPTIMIZER, "_trainable_variables", "moving averages", set_by="build"),
        PrivateName(_LOSS_SCALE, "_stateful_handle_finite_grads", "skipping bad steps"),
        PrivateName(_LOSS_SCALE, "_stateful_handle_non_finite_grads", "skipping bad steps"),
        PrivateName(_BATCH_NORM, "_moments", "statistics over all replicas"),
        PrivateName(_BATCH_NORM, "_reduction_axes", "statistics over all replicas", set_by="build"),
        PrivateName(
            *("keras.src.api_export", "register_internal_serializable"),
            "saved models that load without this package",
        ),
        PrivateName(
            *("keras.layers.Layer", "_flatten_layers"), "layers inside custom layers and wrappers"
        ),
        PrivateName("keras.layers.Identity", "_inbound_nodes", "folding layers", on_instances=True),
        PrivateName(
            *("keras.layers.Identity", "_outbound_nodes", "folding layers"), on_instances=True
        ),
        PrivateName(
            *("keras.src.ops.function.Function", "_nodes_by_depth", "models inside models"),
            set_by="__init__",
        ),
        PrivateName(
            "keras.src.ops.function.Function", "_run_through_graph", "models inside models"
        ),
        PrivateName("keras.Model", "_maybe_symbolic_build", "fit in several processes"),
        PrivateName("keras.Model", "_update_metrics_variables", "a training step on JAX"),
    ),
)


def require(*names: str) -> None:
    """Checks that Keras, with its present backend, has these private names.

    Args:
        *names: names in `KERAS`.

    Raises:
        UserError: Keras has one of them no longer.
    """
    present = keras.backend.backend()
    alone = {"tensorflow": TENSORFLOW_ALONE, "jax": JAX_ALONE}
    absent = {name for backend, names in alone.items() if backend != present for name in names}
    KERAS.require(*(name for name in names if name not in absent))


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
        KERAS.get("register_internal_serializable")(name, cls)
        if issubclass(cls, keras.Model):
            cls.__name__ = name.rpartition(".")[2]  # by which the older `.h5` names a model
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
